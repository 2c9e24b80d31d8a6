"""Connections to Redis that are dead and look open, as after a host's or a firewall's failure: no packet, no reset."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.far_redis import FarNetwork, FarRedisStack
from tests.support.faults import Faults, SlowRepo, running_stack
from tests.support.faults_under_way import LaunchesUnderWay, assert_no_zombie
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel

BOUND_SECONDS = 20.0
"""Two heartbeats of 2 s that are missed, a command that waits for its timeout of 5 s, and as much again."""


@pytest.fixture(scope="module")
def network(folder: Path) -> Iterator[FarNetwork]:
    network = FarNetwork(folder / "data")
    with network.up():
        yield network


@pytest.fixture(scope="module")
def far(forge: Forge, folder: Path, network: FarNetwork) -> Iterator[Faults]:
    """Two gateways, and one of each other part, far from Redis."""
    wheel = quick_jupyter_wheel(folder)
    with running_stack(forge, folder, kind=FarRedisStack, gateways=2, base_packages=wheel) as faults:
        yield faults


@pytest.fixture(scope="module")
def warm(far: Faults) -> SlowRepo:
    """A repository whose image is there."""
    repo = far.slow_repo(holds_build=False)
    far.assert_server_answers(far.stack.facade(repo.url, repo.sha).outcome())
    return repo


def test_half_open_connections_followers_cancels_and_launches_go_on_within_seconds(
    far: Faults, network: FarNetwork, warm: SlowRepo
) -> None:
    launches = LaunchesUnderWay(far, warm)
    elsewhere = far.stack.follow(launches.building.launch_id, gateway=1)
    elsewhere.until_message("line 20\n")

    assert network.cut() > 10
    launches.request_more()
    for following in (launches.building, elsewhere):
        told = len(following.text)
        eventually(lambda: len(following.text) > told + 500, "lines on new connections", BOUND_SECONDS)  # noqa: B023
    launches.finish(seconds=BOUND_SECONDS)
    launches.assert_every_line_once(elsewhere)
    assert_no_zombie(far)
    far.assert_nothing_is_left()


def test_after_that_a_killed_gateways_launch_is_adopted(far: Faults, warm: SlowRepo) -> None:
    launches = LaunchesUnderWay(far, warm)
    far.stack.kill("gateway")
    far.resume(launches.building, gateway=1)
    for following in (launches.cancelled, launches.starting):
        far.resume(following, gateway=1, has_news=False)
    launches.finish()
    far.assert_nothing_is_left()
