"""A stack whose services are of two releases. `python -m tests.support.upgrade_stack` is `bindery up` with that change.

For each part a file names the release that it runs from its next start on. Redis with its users, proxy, hub and culler
are of this release: docs/redis.md wants the rights of the new one before its services start.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx
import pytest

from deploy.local.components import Component, component_name
from deploy.local.installation import Installation
from deploy.local.plan import plan_components
from deploy.local.ports import Ports
from deploy.local.settings import Settings
from tests.support.paths import CHECKOUT
from tests.support.planned_stack import run_stack, second_of
from tests.support.polling import eventually
from tests.support.stack import Stack

COMMIT_BEFORE = "3b88de7d4524677b40ddd6e9eb408c34ae8a2826"
"""The release before this one, or as long as there was none, a commit whose folders of images this one can read.

Whoever makes the next release names the last one here.
"""
KINDS = ("resolver", "builder", "worker", "launcher", "gateway")
"""Our own parts. There are two of each, but for the resolver, which owns nothing."""
FIRSTS = KINDS
SECONDS = tuple(component_name(kind, 2) for kind in KINDS if kind != "resolver")

_LOCK = "requirements.lock"
_RUN = """
import json, os, sys
release = json.loads(open(sys.argv[1]).read())
os.chdir(release["folder"])
command = [release["python"] if word == sys.argv[2] else word for word in sys.argv[2:]]
os.execv(command[0], command)
"""
"""Runs a command in the folder, and by the Python, of the release that a file names."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """The code of one release, and a Python with its packages."""

    folder: str
    python: str


THIS = Release(folder=str(CHECKOUT), python=sys.executable)


def unpack_release_before(folder: Path) -> Release:
    """Unpack the release before into a new folder. Fails the test if the checkout's history lacks it."""
    archive = subprocess.run(["git", "archive", COMMIT_BEFORE], cwd=CHECKOUT, capture_output=True, check=False)
    if archive.returncode:
        reason = archive.stderr.decode(errors="replace").strip()
        pytest.fail(f"these tests need the release before, which a clone with its whole history has: {reason}")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)

    if (folder / _LOCK).read_bytes() == (CHECKOUT / _LOCK).read_bytes():
        return Release(folder=str(folder), python=sys.executable)
    subprocess.run(["sh", "deploy/local/venv.sh", _LOCK], cwd=folder, check=True)
    return Release(folder=str(folder), python=str(folder / ".venv" / "bin" / "python"))


def choose(data_dir: Path, part: str, release: Release) -> None:
    """Let a part of the stack with this data folder run a release from its next start on."""
    file = _file_of(data_dir, part)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(asdict(release)))


def _file_of(data_dir: Path, part: str) -> Path:
    return data_dir.with_name("releases") / part


class UpgradeStack(Stack):
    """`bindery up` with services of two releases; `choose` says for each part which one it begins with."""

    program = ("-m", "tests.support.upgrade_stack")

    def run_release(self, release: Release, *parts: str) -> None:
        """Replace these parts, one after the other and in order, by processes of a release, unless they run it."""
        for part in parts:
            if self._runs(part, release):
                continue
            choose(self.data_dir, part, release)
            self.until_replaced(part, self.signal(part, signal.SIGTERM))
            eventually(lambda: self._runs(part, release) and self._is_healthy(part), f"{part} is well", 60)  # noqa: B023

    def _runs(self, part: str, release: Release) -> bool:
        return Path(f"/proc/{self.parts()[part]}/cwd").resolve() == Path(release.folder).resolve()

    def _is_healthy(self, part: str) -> bool:
        try:
            with self.part_client(part) as client:
                return client.get("/health").status_code == 200
        except (httpx.HTTPError, OSError, KeyError):  # it may have ended just now, or not yet be given its environment
            return False


def _plan(
    settings: Settings, installation: Installation, client: httpx.AsyncClient, environ: Mapping[str, str], ports: Ports
) -> list[Component]:
    components = plan_components(settings, installation, client, environ, ports)
    components += [second_of(component) for component in components if component.name in {"builder", "launcher"}]
    return [_chosen(component, settings.data_dir) if component.kind in KINDS else component for component in components]


def _chosen(component: Component, data_dir: Path) -> Component:
    file = _file_of(data_dir, component.name)
    return replace(component, command=(sys.executable, "-I", "-S", "-c", _RUN, str(file), *component.command))


if __name__ == "__main__":
    sys.exit(run_stack(_plan))
