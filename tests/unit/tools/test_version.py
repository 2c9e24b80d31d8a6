"""One version, in all the places that tell it."""

import tomllib

from services.common.version import VERSION
from tests.support.paths import CHECKOUT


def test_the_services_tell_the_version_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"## {VERSION}" in (CHECKOUT / "CHANGELOG.md").read_text()
