"""The version: where it stands, which forms it may have, and which of two is the later one."""

import re
from pathlib import Path

FILE = Path("services") / "common" / "version.py"
"""The one place that says the version; the chart repeats it."""

CHART = Path("deploy") / "helm" / "bindery" / "Chart.yaml"

FORM = "MAJOR.MINOR.PATCH, for a candidate with rcN after it"
_FORM = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:rc([1-9]\d*))?")
_LINE = re.compile(r'^VERSION = "(.*)"$', re.MULTILINE)
_CHART_LINE = re.compile("^version: .*$", re.MULTILINE)
_APP_LINE = re.compile("^appVersion: .*$", re.MULTILINE)


class ReleaseError(Exception):
    """A release can't be made like this; the message says what to do."""


def read(checkout: Path) -> str:
    """Return the version of a checkout. Raise `ReleaseError`."""
    path = checkout / FILE
    match = _LINE.search(path.read_text(encoding="utf-8")) if path.exists() else None
    if match is None:
        raise ReleaseError(f'{FILE} has no line `VERSION = "…"`: run this in a checkout of Bindery.')
    return match[1]


def write(checkout: Path, version: str) -> None:
    """Set the version of a checkout, and of the chart in it."""
    path = checkout / FILE
    path.write_text(_LINE.sub(f'VERSION = "{version}"', path.read_text(encoding="utf-8")), encoding="utf-8")

    chart = checkout / CHART
    text = _CHART_LINE.sub(f"version: {chart_version(version)}", chart.read_text(encoding="utf-8"))
    chart.write_text(_APP_LINE.sub(f"appVersion: {version}", text), encoding="utf-8")


def chart_version(version: str) -> str:
    """Return a version in the form that Helm demands, https://semver.org: a candidate is `1.3.0-rc1`."""
    return version.replace("rc", "-rc")


def parse(version: str) -> tuple[int, ...]:
    """Return numbers by which versions are ordered: a candidate comes before its release. Raise `ReleaseError`."""
    match = _FORM.fullmatch(version)
    if match is None:
        raise ReleaseError(f"{version!r} is not a version: write {FORM}.")

    major, minor, patch, candidate = match.groups()
    return int(major), int(minor), int(patch), int(candidate is None), int(candidate or 0)


def is_candidate(version: str) -> bool:
    """Return whether a version is a candidate for a release. Raise `ReleaseError`."""
    return not parse(version)[3]
