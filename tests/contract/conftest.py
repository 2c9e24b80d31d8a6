"""A forge for the tests of this folder, and what the tests of the process executor share."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.forge import Forge
from tests.support.forge_fixtures import forge
from tests.support.paths import share_packages
from tests.support.valkey import redis, valkey

__all__ = ["forge", "redis", "valkey"]

Serve = Callable[[dict[str, str | bytes]], tuple[str, str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve git repositories over HTTP on loopback; returns the URL of each and the sha of its commit."""
    names = (f"repo-{number}" for number in count(1))
    with Forge(tmp_path / "served") as served:

        def add(files: dict[str, str | bytes]) -> tuple[str, str]:
            name = next(names)
            return f"{served.url}/org/{name}", served.create_repo("org", name, files)

        yield add


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that has the cache of packages of all tests."""
    (tmp_path / "data").mkdir()
    share_packages(tmp_path / "data")
    return tmp_path / "data"
