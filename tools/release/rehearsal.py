"""A rehearsal: all that a release publishes is made and tried on this machine, and nothing leaves it."""

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tools.release import changelog, checks, version
from tools.release.version import ReleaseError

PACKAGE = "bindery"
DESCRIPTION = "bindery/README.md"
"""Not a file of the wheel: it is the description in its metadata."""

IMAGES = "localhost/bindery/"
"""How the names of images begin that `make images` builds."""

VERSION_LABEL = "org.opencontainers.image.version"


class Outcome(StrEnum):
    """What became of one part of the rehearsal."""

    WELL = "ok"
    FAILED = "FAIL"
    SKIPPED = "skip"
    NOT_YET = "later"


@dataclass(frozen=True)
class Row:
    """One line of the table: `result` says what was made, or what is wrong."""

    outcome: Outcome
    part: str
    result: str

    def __str__(self) -> str:
        return f"{self.outcome:<5}  {self.part:<11}  {self.result}"


class _Skipped(Exception):
    """A part can't be tried on this machine; the message says why."""


PARTS = ("wheel", "content", "installed", "chart", "images", "notes")


def run(checkout: Path, today: datetime.date, parts: Collection[str] = PARTS) -> list[Row]:
    """Make and try everything, or some parts of it; print a line for each part, and return the lines.

    What keeps the commit from being released is listed as `later`: a rehearsal may come first.
    """
    released = version.read(checkout)
    wheel = checkout / "dist" / f"{PACKAGE}-{released}-py3-none-any.whl"
    steps: dict[str, Callable[[], str]] = {
        "wheel": lambda: _make_wheel(checkout, wheel),
        "content": lambda: _compare_content(checkout, wheel),
        "installed": lambda: _try_installed(wheel, released),
        "chart": lambda: _package_chart(checkout, released),
        "images": lambda: _make_images(checkout, released),
        "notes": lambda: _count_notes(checkout, released),
    }

    rows = []
    for part in filter(parts.__contains__, PARTS):
        rows.append(_row(part, steps[part]))
        print(rows[-1], flush=True)
    for problem in checks.problems(checkout, today):
        rows.append(Row(Outcome.NOT_YET, "check", problem))
        print(rows[-1], flush=True)
    return rows


def _row(part: str, step: Callable[[], str]) -> Row:
    try:
        return Row(Outcome.WELL, part, step())
    except _Skipped as reason:
        return Row(Outcome.SKIPPED, part, str(reason))
    except (ReleaseError, OSError) as error:
        return Row(Outcome.FAILED, part, str(error))


def _make_wheel(checkout: Path, wheel: Path) -> str:
    wheel.unlink(missing_ok=True)
    _run(["make", "wheel"], checkout)
    content = wheel.read_bytes()
    return f"{wheel.relative_to(checkout)}, {len(content)} bytes, sha256:{hashlib.sha256(content).hexdigest()}"


def _compare_content(checkout: Path, wheel: Path) -> str:
    """Compare the wheel with git's files: what is in neither is an oversight, of a build or of a commit."""
    tracked = set(_run(["git", "ls-files", PACKAGE], checkout).splitlines()) - {DESCRIPTION}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    if missing := sorted(tracked - names):
        raise ReleaseError(f"the wheel lacks {', '.join(missing)}")
    if unknown := sorted(names - tracked):
        raise ReleaseError(f"the wheel has {', '.join(unknown)}, which git does not know: remove it from {PACKAGE}/")
    return f"{len(names)} files, those of {PACKAGE}/"


def _try_installed(wheel: Path, released: str) -> str:
    """Install the wheel as its users do, in an environment of its own, and run its commands there."""
    with tempfile.TemporaryDirectory() as folder:
        programs = Path(folder) / "venv" / "bin"
        _run([sys.executable, "-m", "venv", str(programs.parent)], Path(folder))
        _run([str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel)], Path(folder))

        printed = _run([str(programs / "bindery"), "--version"], Path(folder)).strip()
        if printed != f"{PACKAGE} {released}":
            raise ReleaseError(f"`bindery --version` printed {printed!r}")
        _run([str(programs / "python"), "-c", "from bindery import Client; Client().close()"], Path(folder))
        up = subprocess.run(
            [programs / "bindery", "up"], cwd=folder, env=_clean(), capture_output=True, text=True, check=False
        )
        if up.returncode != 1 or "checkout of Bindery" not in up.stderr:
            raise ReleaseError(f"`bindery up` did not say that it needs a checkout: {up.stderr.strip()}")
    return printed


def _package_chart(checkout: Path, released: str) -> str:
    if not shutil.which("helm"):
        raise _Skipped("there is no helm here")
    _run(["helm", "package", str(version.CHART.parent), "--destination", "dist"], checkout)
    package = checkout / "dist" / f"{PACKAGE}-{version.chart_version(released)}.tgz"
    return f"{package.relative_to(checkout)}, {package.stat().st_size} bytes"


def _make_images(checkout: Path, released: str) -> str:
    if not shutil.which("docker"):
        raise _Skipped("there is no docker here")
    try:
        _run(["docker", "version"], checkout)
    except ReleaseError as error:
        raise _Skipped("no container engine answers here") from error

    output = _run(["make", "images", f"TAG={released}"], checkout)
    built = re.findall(rf"^{IMAGES}(\S+):{re.escape(released)} +(\d+ MB)$", output, re.MULTILINE)
    if not built:
        raise ReleaseError(f"`make images` named no image {IMAGES}…:{released}")
    for name, _ in built:
        label = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{VERSION_LABEL}"}}}}']
        if (labelled := _run([*label, f"{IMAGES}{name}:{released}"], checkout).strip()) != released:
            raise ReleaseError(f"the image {name} has {labelled!r} as {VERSION_LABEL}")
    return ", ".join(f"{name} {size}" for name, size in built)


def _count_notes(checkout: Path, released: str) -> str:
    text = changelog.notes(changelog.section(checkout, released).text)
    return f"{len(text.splitlines())} lines"


def _run(command: list[str], folder: Path) -> str:
    """Return the output of a command. Raise `ReleaseError` with the end of what it said, if it fails."""
    result = subprocess.run(command, cwd=folder, env=_clean(), capture_output=True, text=True, check=False)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()[-3:]
        raise ReleaseError(f"`{' '.join(command)}` failed: {' / '.join(said)}")
    return result.stdout


def _clean() -> dict[str, str]:
    """Return the environment without what would let a program find the packages of another one."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "MAKEFLAGS"}}
