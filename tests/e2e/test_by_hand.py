"""`bindery up --without ...`: the components left out are started by the printed lines, and serve the stack."""

import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

COMPONENTS = ["worker", "gateway"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that waits for two components."""
    stack = Stack(tmp_path / "data", base_packages=quick_jupyter_wheel(tmp_path))
    try:
        stack.spawn("--without", ",".join(COMPONENTS))
        yield stack
    finally:
        stack.stop()


@contextmanager
def run_in_shell(line: str, log: Path) -> Iterator[None]:
    """Run a line as a developer pastes it, in a shell whose own environment holds nothing of use."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", line], env={}, cwd="/", stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_components_that_are_run_by_hand_serve_the_stack(stack: Stack, forge: Forge, tmp_path: Path) -> None:
    eventually(lambda: "To run gateway by hand" in stack.log(), f"instructions in {stack.log()}", 120)
    lines = dict(re.findall(r"^To run (\w+) by hand, in another terminal:\n(.*)$", stack.log(), re.MULTILINE))
    assert list(lines) == COMPONENTS
    assert set(stack.parts()).isdisjoint(COMPONENTS)
    assert stack.start_token not in stack.log()
    for name in COMPONENTS:
        path = stack.data_dir / "run" / f"{name}.env"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not [value for value in secrets_of(stack) if value in lines[name]]

    share_packages(stack.data_dir)
    with ExitStack() as shells:
        for name, line in lines.items():
            shells.enter_context(run_in_shell(line.strip(), tmp_path / f"{name}.log"))
        stack.until_ready()
        sha = forge.create_repo("hands", "demo", {"requirements.txt": ""})
        ApiLaunch.begin(stack, git_spec(f"{forge.url}/hands/demo", sha)).until_ended("ready")


def secrets_of(stack: Stack) -> list[str]:
    return [value for name, value in stack.installation.items() if name not in {"v", "installation_id"}]
