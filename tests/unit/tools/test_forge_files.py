"""What the forge and the hooks read: it parses, and it names only what exists."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.run_record import ENVIRONMENT_SUFFIX
from tests.support.paths import CHECKOUT

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def run_ci(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / ".ci" / "run", *arguments], capture_output=True, text=True, timeout=20, check=False
    )  # fmt: skip


def tiers() -> list[str]:
    """The tiers that `.ci/run` knows."""
    return run_ci("--list").stdout.split()


def jobs_of(workflow: Path) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(workflow.read_text())["jobs"]
    return jobs


def commands_of(job: dict[str, Any]) -> Iterator[str]:
    """What a job runs, with each value of its matrix in place."""
    matrix = job.get("strategy", {}).get("matrix", {})
    for step in job.get("steps", []):
        if "matrix.tier" in step.get("run", ""):
            yield from (step["run"].replace("${{ matrix.tier }}", tier) for tier in matrix["tier"])
        elif "run" in step:
            yield step["run"]


def test_every_tier_is_a_job_and_no_job_names_another() -> None:
    named: set[str] = set()
    for workflow in WORKFLOWS:
        for job in jobs_of(workflow).values():
            for command in commands_of(job):
                for arguments in re.findall(r"\.ci/run(.*)", command):
                    assert set(arguments.split()) <= set(tiers())
                    if workflow.name == "checks.yml":
                        named |= set(arguments.split())
    assert named == set(tiers())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_its_actions_have_versions(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    steps = [step for job in jobs_of(workflow).values() for step in job.get("steps", [])]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", action) for action in actions), actions


def test_every_dockerfile_that_we_publish_or_develop_in_gets_newer_bases() -> None:
    updates = yaml.safe_load((CHECKOUT / ".github" / "dependabot.yml").read_text())["updates"]
    watched = {
        (update["package-ecosystem"], folder)
        for update in updates
        for folder in update.get("directories", [update.get("directory")])
    }
    dockerfiles = [path for folder in (".devcontainer", "deploy") for path in (CHECKOUT / folder).rglob("Dockerfile")]
    folders = {f"/{path.parent.relative_to(CHECKOUT)}" for path in dockerfiles}
    assert folders == {folder for ecosystem, folder in watched if ecosystem == "docker"}
    assert (CHECKOUT / "docker-compose.yml").exists() == (("docker-compose", "/") in watched)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_for_issues_parses(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    if form.name == "config.yml":
        assert "SECURITY.md" in content["contact_links"][0]["about"]
        return
    assert {"name", "description", "labels", "body"} == set(content)
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_an_unknown_tier_is_refused_before_anything_runs() -> None:
    result = run_ci("lint", "tset")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("There is no tier tset here; these are: lint docs test ")


def test_every_tier_is_a_target_of_make() -> None:
    targets = re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert set(tiers()) <= set(targets)


def test_every_hook_is_installed_by_one_command() -> None:
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    hooks = config["repos"][0]["hooks"]
    stages = {stage for hook in hooks for stage in hook.get("stages", config["default_stages"])}
    assert stages == set(config["default_install_hook_types"]) == {"pre-commit", "commit-msg", "pre-push"}


@pytest.mark.parametrize("file", sorted((CHECKOUT / ".vscode").glob("*.json")), ids=lambda path: path.name)
def test_a_file_of_the_editor_parses(file: Path) -> None:
    assert json.loads(file.read_text())


def test_the_debugger_starts_every_service_with_the_environment_that_up_writes() -> None:
    configurations = json.loads((CHECKOUT / ".vscode" / "launch.json").read_text())["configurations"]
    services = {
        configuration["module"]: configuration["envFile"]
        for configuration in configurations
        if "envFile" in configuration
    }
    modules = [path.parent for path in (CHECKOUT / "services").rglob("__main__.py")]
    programs = {".".join(path.relative_to(CHECKOUT).parts) for path in modules} & set(services)
    assert programs == set(services)
    assert all(
        environment == f"${{workspaceFolder}}/.bindery/run/{module.rpartition('.')[2]}{ENVIRONMENT_SUFFIX}"
        for module, environment in services.items()
    )
