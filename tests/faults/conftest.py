"""One forge and one stack a module: its tests kill one part after another, and look that the rest is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, SlowRepo, running_stack
from tests.support.forge import Forge

WARM_SECONDS = 60.0
"""A build, in a stack that has just begun, and a server."""


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """One of each part; a module that needs another stack has a fixture of this name."""
    with running_stack(forge, folder) as faults:
        yield faults


@pytest.fixture(scope="module")
def warm(faults: Faults) -> SlowRepo:
    """A repository whose image is there."""
    repo = faults.slow_repo(holds_build=False)
    faults.assert_server_answers(faults.stack.facade(repo.url, repo.sha).outcome(WARM_SECONDS))
    return repo


@pytest.fixture
def nothing_is_left(faults: Faults) -> Iterator[None]:
    """Check after a test that nothing of it is left at the stack."""
    yield
    faults.forge.git_fault = None
    faults.assert_nothing_is_left()
