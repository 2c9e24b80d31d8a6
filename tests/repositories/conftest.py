"""A Bindery that builds in processes, with the packages that every environment really gets, and a forge for the cases.

The folders of cases are data: pytest looks for no tests in them.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.archive_datasets import api_urls
from tests.support.case_launches import launch_case
from tests.support.case_repositories import CaseRepository
from tests.support.cases import Case
from tests.support.conda_channel import ChannelServer, make_channel
from tests.support.conda_packages import interpreter, places, tool
from tests.support.forge import Forge
from tests.support.leftovers import Listing, leave_nothing, until_back_to
from tests.support.paths import share_packages
from tests.support.stack import Stack

collect_ignore_glob = ["[!_]*/*"]

Launch = Callable[[Case], None]


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a conda channel: this machine's Python, and small packages."""
    folder = tmp_path_factory.mktemp("channels")
    make_channel(folder / "orchard", [interpreter(), places(), tool()])
    with ChannelServer(folder) as server:
        yield f"{server.url}/orchard"


@contextlib.contextmanager
def stack_for_cases(folder: Path, **settings: object) -> Iterator[Stack]:
    """Run a stack in which a case takes little time."""
    with Stack(
        folder / "data", reap_interval_seconds=1, server_poll_seconds=1, finished_stream_seconds=1, **settings
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture(scope="session")
def stack(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose archives, doi.org and DataCite are the forge."""
    with stack_for_cases(
        tmp_path_factory.mktemp("cases"),
        doi_url=f"{forge.url}/doi",
        datacite_api_url=f"{forge.url}/datacite",
        **api_urls(forge),
    ) as stack:
        yield stack


@pytest.fixture(scope="session")
def idle(stack: Stack) -> Listing:
    """What there is at the stack before its first launch."""
    return Listing.of(stack)


@pytest.fixture
def launch(request: pytest.FixtureRequest, stack: Stack, forge: Forge, idle: Listing, tmp_path: Path) -> Launch:
    """Launch a case, see what it must come to, and that nothing of it is left."""

    def launch(case: Case) -> None:
        variables = {"CHANNEL": request.getfixturevalue("channel")} if case.mentions("CHANNEL") else {}
        try:
            launch_case(stack, CaseRepository(case=case, forge=forge, folder=tmp_path, variables=variables), "process")
        finally:
            leave_nothing(stack)
        until_back_to(stack, idle)

    return launch
