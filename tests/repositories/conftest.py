"""A Bindery that builds in processes, with the packages that every environment really gets, and a forge for the cases.

The folders of cases are data: pytest looks for no tests in them.
"""

from collections.abc import Iterator, Mapping

import pytest

from tests.support.forge import Forge
from tests.support.leftovers import Listing
from tests.support.stack import Stack, share_packages

collect_ignore_glob = ["[!_]*/*"]


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="session")
def case_variables() -> Mapping[str, str]:
    """What stands for `@NAME@` in the texts of every case, beside what each case has of its own."""
    return {}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("cases") / "data",
        reap_interval_seconds=1,
        server_poll_seconds=1,
        finished_stream_seconds=1,
    ) as stack:
        share_packages(stack)
        yield stack


@pytest.fixture(scope="session")
def idle(stack: Stack) -> Listing:
    """What there is at the stack before its first launch."""
    return Listing.of(stack)
