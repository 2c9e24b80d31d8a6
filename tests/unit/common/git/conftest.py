"""A forge for the tests of this folder."""

from pathlib import Path

import pytest

from tests.support.forge_fixtures import forge

__all__ = ["forge"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "checkout"
