"""An engine's socket that can't be opened: health says which of the three reasons it is, and what to do."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.builder.executors.factory import make_executor
from services.builder.settings import BuilderSettings
from tests.support.paths import CHECKOUT
from tests.support.settings import settings_for


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, which everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def problem_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BINDERY_DOCKER_HOST", f"unix://{path}")
    executor, images = make_executor(settings_for(BuilderSettings, {"executor": "docker", "build_push": False}))
    try:
        problem = await executor.health_problem()
        assert await images.health_problem()
        return problem or ""
    finally:
        await executor.aclose()
        await images.aclose()


async def test_a_socket_that_does_not_exist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = await problem_at(folder / "none", monkeypatch)
    assert (
        f"there is no socket {folder / 'none'}: start the engine, or name its socket in BINDERY_DOCKER_HOST" in problem
    )


async def test_a_socket_that_nobody_listens_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead"))
    assert f"nothing listens at {folder / 'dead'}: start the engine" in await problem_at(folder / "dead", monkeypatch)


SCRIPT = """
import asyncio
import os
from services.builder.executors.factory import make_executor
from services.builder.settings import BuilderSettings

async def main():
    executor, images = make_executor(BuilderSettings(executor="docker", build_push=False))
    os.setgroups([])  # only now: another user may not be able to read this Python's files
    os.setgid(10001)
    os.setuid(10001)
    print(await executor.health_problem())
    await executor.aclose()
    await images.aclose()

asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_socket_that_this_user_may_not_open_says_how_to_get_its_group(folder: Path) -> None:
    path = folder / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o660)
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "BINDERY_DOCKER_HOST": f"unix://{path}"}
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environ, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
    assert f"this process, of user 10001, may not open {path}: give it the socket's group" in result.stdout, result
    assert "with docker-compose.yml, DOCKER_GID in .env" in result.stdout
