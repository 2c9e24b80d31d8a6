"""Connections to Redis that are dead and look open, as after a host's or a firewall's failure: no packet, no reset."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.far_redis import FarNetwork, FarRedisStack
from tests.support.faults import Faults, SlowRepo, running_stack
from tests.support.faults_under_way import LaunchesUnderWay, assert_no_zombie
from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("nothing_is_left")

BOUND_SECONDS = 20.0
"""Two heartbeats of 2 s that are missed, a command that waits for its timeout of 5 s, and as much again."""
ADOPTED_SECONDS = 25.0
"""A lease of 6 s that runs out, another one while the sweeper is in doubt, a sweep, and the line that follows."""


@pytest.fixture(scope="module")
def network(folder: Path) -> Iterator[FarNetwork]:
    network = FarNetwork(folder / "data")
    with network.up():
        yield network


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path, network: FarNetwork) -> Iterator[Faults]:
    """Two gateways, and one of each other part, far from Redis."""
    with running_stack(forge, folder, kind=FarRedisStack, gateways=2) as faults:
        yield faults


def until_lines_come(following: Following) -> None:
    """Wait for some lines more than a connection that was cut may have brought."""
    length_before = len(following.text)
    eventually(lambda: len(following.text) > length_before + 500, "lines on new connections", BOUND_SECONDS)


def test_half_open_connections_followers_cancels_and_launches_go_on_within_seconds(
    faults: Faults, network: FarNetwork, warm: SlowRepo
) -> None:
    launches = LaunchesUnderWay(faults, warm)
    elsewhere = faults.stack.follow(launches.building.launch_id, gateway=1)
    elsewhere.until_message("line 20\n")

    assert network.cut() > 10
    launches.request_more()
    for following in (launches.building, elsewhere):
        until_lines_come(following)
    launches.finish(seconds=BOUND_SECONDS)
    launches.assert_every_line_once(elsewhere)
    assert_no_zombie(faults)


def test_a_killed_gateways_launches_are_adopted_by_one_whose_connections_were_dead(
    faults: Faults, network: FarNetwork, warm: SlowRepo
) -> None:
    launches = LaunchesUnderWay(faults, warm)
    assert network.cut() > 10
    until_lines_come(launches.building)

    faults.stack.kill("gateway")
    with launches.bounded(ADOPTED_SECONDS):
        faults.resume(launches.building, gateway=1)
        for following in (launches.cancelled, launches.starting):
            faults.resume(following, gateway=1, has_news=False)
    launches.finish(seconds=BOUND_SECONDS)
