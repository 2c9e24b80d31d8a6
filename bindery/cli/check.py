"""`bindery check`."""

import json as json_format
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bindery.cli.checkout import CHECKOUT, checkout
from bindery.cli.terminal import CommandError, printable

Folder = Annotated[Path, Parameter(help="Folder of a repository, with its changes that are not yet committed.")]
AsJson = Annotated[bool, Parameter(name="--json", help="Print everything that is known as JSON.", negative="")]


_NEEDED = ("packaging", "pydantic_settings", "yaml")


def check(folder: Folder = Path(), *, as_json: AsJson = False) -> int:
    """Say what would be built from a folder, by which executor, and what would be refused and why.

    The exit status is 1 if the executor of this machine's settings would refuse it.
    """
    report = _report(folder)
    if as_json:
        print(json_format.dumps(report, indent=2))
    else:
        for line in _lines(report):
            print(printable(line))
    return 1 if report["executors"][report["executor"]] is False else 0


def _report(folder: Path) -> dict[str, Any]:
    """Return what the builder reports. Its code stays out of this process, as `bindery up` keeps it out."""
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder")

    with checkout("check"):
        for package in _NEEDED:
            if find_spec(package) is None:
                raise ModuleNotFoundError(name=package)

    command = [sys.executable, "-m", "services.builder.check", str(folder.absolute())]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    result = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CommandError(f"{folder} could not be read: {result.stderr.strip().rpartition(chr(10))[2]}")
    report: dict[str, Any] = json_format.loads(result.stdout)
    report["notes"] += _uncommitted(folder, report["files"])
    return report


def _uncommitted(folder: Path, files: list[str]) -> list[str]:
    """Return notes on files that a launch would not see as they are; none outside of a checkout of git."""
    if not files:
        return []
    command = ["git", "-C", str(folder), "status", "--porcelain", "-z", "--ignored", "--no-renames", "--", *files]
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    try:
        result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    except OSError:
        return []
    if result.returncode:
        return []

    names = {Path(entry[3:]).name for entry in result.stdout.split("\0") if entry}
    return [
        f"{file} is not committed as it is: a launch would not see it" for file in files if Path(file).name in names
    ]


def _lines(report: dict[str, Any]) -> list[str]:
    place = f" (only the files in {report['files_in']}/ count)" if report["files_in"] else ""
    lines = [_row("Folder", f"{report['folder']}{place}")]
    lines += [_row("Refused", report["message"])] if report["message"] else _plan_lines(report)
    lines += [_row("Note", note) for note in report["notes"]]

    lines.append("")
    for name, builds in report["executors"].items():
        here = ", which runs the builds of this machine" if name == report["executor"] else ""
        lines.append(f"{_VERDICTS[builds]} by the executor {name}{here}")
    return lines


_VERDICTS = {True: "Built", False: "Refused", None: "Not known here whether it is built"}


def _plan_lines(report: dict[str, Any]) -> list[str]:
    lines = [
        _row("Read as", f"{report['buildpack']}: {report['file']}" if report["file"] else "no environment of its own"),
        _row("Python", report["python"] or "the default one"),
        _row("Installed", "Jupyter, as the operator says"),
    ]
    for install in report["installs"]:
        asked = [line for line in install["requirements"] if not line.startswith("--")]
        here = Path(report["folder"]).as_uri()
        shown = ", ".join("this folder" if line == here else line.replace(here, ".") for line in asked)
        lines.append(_row("", f"{install['source']}: {shown}"))
    lines += [_row("Then", f"{report['post_build']} runs")] if report["post_build"] else []
    lines += [_row("At start", f"{report['start']} runs around each server")] if report["start"] else []
    return lines


def _row(title: str, text: str) -> str:
    return f"{title:<10} {text}".rstrip()
