"""A Bindery that builds in processes, with the packages that every environment really gets, and a forge for the cases.

The folders of cases are data: pytest looks for no tests in them.
"""

from collections.abc import Iterator

import pytest

from tests.support.conda_channel import ChannelServer, make_channel
from tests.support.conda_packages import interpreter, places, tool
from tests.support.forge import Forge
from tests.support.leftovers import Listing
from tests.support.paths import share_packages
from tests.support.stack import Stack

collect_ignore_glob = ["[!_]*/*"]


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


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("cases") / "data",
        reap_interval_seconds=1,
        server_poll_seconds=1,
        finished_stream_seconds=1,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture(scope="session")
def idle(stack: Stack) -> Listing:
    """What there is at the stack before its first launch."""
    return Listing.of(stack)
