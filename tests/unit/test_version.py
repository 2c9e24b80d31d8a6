"""One version, in all the places that tell it."""

import tomllib
from pathlib import Path

from services.common.version import VERSION

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_services_tell_the_version_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"## {VERSION}" in (CHECKOUT / "CHANGELOG.md").read_text()
