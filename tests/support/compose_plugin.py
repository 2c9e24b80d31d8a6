"""`docker compose` for the tests: the one that is installed, else one built as a Go module and kept.

Debian's own, 1.29, is too old. A build takes some minutes of all cores, once for a machine:

    python -m tests.support.compose_plugin      # makes sure that there is one, and prints its version
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import CACHE
from tests.support.go_toolchain import NoGoError, go_environment, module_folder

VERSION = "v2.40.3"
MODULE = "github.com/docker/compose/v2"
SUM = "h1:XeYkQu1svDtyfZPv5nTwFryQ25ZJMkIlc4pz9HalMPI="
"""Of the module's files, as Go's checksum database has it; its go.sum has those of what it is built from."""
LEAST_VERSION = (2, 24)
BUILD_SECONDS = 1800


class NoComposeError(Exception):
    """There is no Compose and none can be built; the message says in one line what is missing."""


def compose_environment(cache: Path = CACHE) -> dict[str, str]:
    """Return the variables with which `docker compose` runs: none if it is installed, else those of the built one.

    Build it if there is none; a build that another process has begun is waited for. Raise `NoComposeError`.
    """
    if is_recent(_version_of({})):
        return {}
    config = cache / "compose" / VERSION
    environ = {"DOCKER_CONFIG": str(config)}
    with _only_one(cache):
        program = config / "cli-plugins" / "docker-compose"
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            _build(program)
    if not is_recent(version := _version_of(environ)):
        raise NoComposeError(f"docker compose with {environ} says that it is {version!r}")
    return environ


@contextlib.contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Hold the lock under which it is built."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "compose.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version_of(environ: dict[str, str]) -> str:
    """Return the version of `docker compose`; empty without one."""
    if not shutil.which("docker"):
        return ""
    command = ["docker", "compose", "version", "--short"]
    process = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    return process.stdout.strip() if process.returncode == 0 else ""


def is_recent(version: str) -> bool:
    """Return whether a Compose of this version can be used."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= LEAST_VERSION


def _build(program: Path) -> None:
    """Build it in the module's own folder, so with the versions of everything that it was released with."""
    with tempfile.TemporaryDirectory(prefix="bindery-compose-") as folder:
        try:
            environ = go_environment(Path(folder))
            source = module_folder(MODULE, VERSION, SUM, environ)
        except NoGoError as error:
            raise NoComposeError(str(error)) from error
        flags = f"-s -w -X {MODULE}/internal.Version={VERSION}"
        built = Path(folder) / "docker-compose"
        command = ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(built), "./cmd"]
        process = subprocess.run(
            command, cwd=source, env=environ, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if process.returncode:
            raise NoComposeError(f"go build of {MODULE} {VERSION} failed: {process.stderr.strip()[-500:]}")
        beside = program.with_suffix(".new")  # on the same file system: whoever sees the program sees all of it
        shutil.copy(built, beside)
        beside.rename(program)


def main() -> None:
    try:
        environ = compose_environment()
    except NoComposeError as error:
        print(f"no test of docker-compose.yml can run: {error}", flush=True)
        sys.exit(1 if os.environ.get("CI") else 0)
    print(json.dumps({"version": _version_of(environ), "environment": environ}))


if __name__ == "__main__":
    main()
