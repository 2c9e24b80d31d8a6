"""The workflow that a tag starts: what it publishes, where, and with which rights."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import CHECKOUT

TEXT = (CHECKOUT / ".github" / "workflows" / "release.yml").read_text()
JOBS: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]
PUBLISHING = [name for name in JOBS if name.startswith("publish-")]
PAGE = (CHECKOUT / "docs" / "release.md").read_text()
RUNS = [step["run"] for job in JOBS.values() for step in job.get("steps", []) if "run" in step]


def test_nothing_is_published_unless_a_variable_of_the_repository_says_where() -> None:
    assert PUBLISHING
    for name in PUBLISHING:
        (variable,) = re.findall(r"^vars\.(\w+) != ''$", JOBS[name]["if"])
        assert f"| `{variable}` |" in PAGE
        assert f"${{{{ vars.{variable} }}}}" in str(JOBS[name])


def test_every_variable_and_secret_is_explained() -> None:
    names = set(re.findall(r"(?:vars|secrets)\.(\w+)", TEXT))
    assert names == set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))


def test_what_is_published_has_passed_the_checks() -> None:
    for name in [*PUBLISHING, "page"]:
        assert {"check", "tiers"} <= set(JOBS[name]["needs"])
    assert set(JOBS["page"]["needs"]) == set(JOBS) - {"page"}
    assert "workflow_call" in (CHECKOUT / ".github" / "workflows" / "checks.yml").read_text()


def test_only_a_job_that_publishes_may_write_and_only_there() -> None:
    writes = {
        name: {scope for scope, right in job["permissions"].items() if right == "write"}
        for name, job in JOBS.items()
        if "permissions" in job
    }
    assert writes == {"publish-images": {"packages"}, "publish-wheel": {"id-token"}, "page": {"contents"}}


def test_the_steps_and_targets_that_it_runs_exist() -> None:
    program = (CHECKOUT / "tools" / "release" / "__main__.py").read_text()
    steps = re.findall(r"tools\.release (\w+)", "\n".join(RUNS))
    assert set(steps) == {"check", "version", "notes"}
    assert all(f'add("{step}", ' in program for step in steps)
    targets = set(re.findall(r"^([a-z.-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z.-]+)", "\n".join(RUNS))) <= targets


def test_no_expression_becomes_part_of_a_command() -> None:
    assert not [command for command in RUNS if "${{" in command]


def test_the_page_names_every_image() -> None:
    (names,) = re.findall(r'^ALL="(.*)"$', (CHECKOUT / "deploy" / "images" / "build.sh").read_text(), re.MULTILINE)
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| the images ")]
    assert set(re.findall(r"`([a-z0-9]+)`", row)) == set(names.split())


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [
        ("registry.example.org/x/", "registry.example.org/x/*:1.2.3"),
        ("registry.example.org/x", "registry.example.org/x/*:1.2.3"),
        ("docker.io/somebody/", "somebody/*:1.2.3"),  # an engine knows images of that registry without its name
    ],
)
def test_the_images_that_were_pushed_are_listed(prefix: str, pattern: str, tmp_path: Path) -> None:
    (command,) = [command for command in RUNS if "docker image ls" in command]
    engine = tmp_path / "docker"
    engine.write_text('#!/bin/sh\necho "$@"\n')
    engine.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PREFIX": prefix, "VERSION": "1.2.3"}
    subprocess.run(["bash", "-e", "-c", command], env=environ, cwd=tmp_path, check=True)
    assert f"--filter reference={pattern}\n" in (tmp_path / "images.txt").read_text()
