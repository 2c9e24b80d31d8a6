"""A forge for the tests of this folder, and its Git LFS server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.git import lfs_server
from tests.support.forge import Forge
from tests.support.forge_fixtures import forge
from tests.support.lfs_objects import LfsObjects

__all__ = ["forge"]


@pytest.fixture
def lfs(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> LfsObjects:
    """The forge's Git LFS server. Attempts that fail are repeated at once."""
    monkeypatch.setattr(lfs_server, "PAUSES_SECONDS", (0.0, 0.0))
    forge.lfs = LfsObjects()
    return forge.lfs


@pytest.fixture
def other_forge(tmp_path: Path) -> Iterator[Forge]:
    """Another host, with a Git LFS server of its own."""
    with Forge(tmp_path / "other", host="127.0.0.2") as forge:
        forge.lfs = LfsObjects()
        yield forge


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "checkout"
