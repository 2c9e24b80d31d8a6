"""The commands of docs/builders.md about engines do what the page says."""

import re
import subprocess

import pytest

from services.builder.settings import BuilderSettings
from tests.support.engine import Engine
from tests.support.paths import CHECKOUT
from tests.support.service_images import build_environment

PAGE = (CHECKOUT / "docs" / "builders.md").read_text()
COMMANDS = [
    block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if block.startswith(("docker ", "make "))
]


def run(commands: str, docker: Engine) -> str:
    process = subprocess.run(
        ["sh", "-ec", commands], cwd=CHECKOUT, env=build_environment(docker), capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_builder_image_is_built_as_the_page_says(docker: Engine) -> None:
    run(COMMANDS[0], docker)
    default = BuilderSettings.model_fields["builder_image"].default
    assert "repo2docker" in docker.docker("run", "--rm", default, "jupyter-repo2docker", "--help")


def test_the_containers_of_builds_are_listed_as_the_page_says(docker: Engine) -> None:
    name = docker.docker("create", "--label", "bindery.execution=page", docker.base, "true").strip()
    try:
        assert name[:12] in run(COMMANDS[1], docker)
    finally:
        docker.docker("rm", name)
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("setting", sorted(set(re.findall(r"`(BINDERY_[A-Z0-9_]*[A-Z0-9])", PAGE))))
def test_the_page_names_settings_that_there_are(setting: str) -> None:
    assert f"`{setting}`" in (CHECKOUT / "docs" / "settings.md").read_text()
