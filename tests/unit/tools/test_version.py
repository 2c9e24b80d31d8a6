"""One version, in one place, and all others take it from there."""

import tomllib

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from services.common.version import VERSION
from tests.support.paths import CHECKOUT


def test_the_wheel_has_the_version_of_the_services() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert "version" not in project, "a second place for the version"
    assert ProjectMetadata(str(CHECKOUT), PluginManager()).version == VERSION


def test_the_changelog_begins_with_this_version() -> None:
    headings = [line for line in (CHECKOUT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0].startswith(f"## {VERSION}, ")
