"""The fixture of tests that use a forge; a conftest imports it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forge import Forge


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """A forge of the test's own, without repositories."""
    with Forge(tmp_path / "forge") as forge:
        yield forge
