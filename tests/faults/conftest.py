"""One forge and one stack a module: its tests kill one part after another, and look that the rest is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, running_stack
from tests.support.forge import Forge


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """One of each part."""
    with running_stack(forge, folder) as faults:
        yield faults


@pytest.fixture(scope="module")
def doubled_faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """Two workers and two gateways."""
    with running_stack(forge, folder, workers=2, gateways=2) as faults:
        yield faults
