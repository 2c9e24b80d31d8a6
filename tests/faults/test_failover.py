"""Sentinel makes a replica the master under 50 launches and 10 builds: none fails, and nothing is done twice."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, SlowRepo
from tests.support.faults_under_way import epochs
from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.polling import eventually
from tests.support.sentinel import SentinelCluster, Server
from tests.support.sentinel_stack import running_sentinel_stack

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("nothing_is_left")]

BUILDS = 10
WARM_LAUNCHES = 40
BOUND_SECONDS = 60.0
"""From the fault until every launch is ready, on a machine that starts 50 servers and ends 10 builds meanwhile."""


@pytest.fixture(scope="module")
def behind_sentinel(forge: Forge, folder: Path) -> Iterator[tuple[Faults, SentinelCluster]]:
    """Two workers and two gateways, as docs/redis.md sets Redis up."""
    with running_sentinel_stack(forge, folder, workers=2, gateways=2, build_slots=BUILDS // 2) as stack:
        yield stack


@pytest.fixture(scope="module")
def faults(behind_sentinel: tuple[Faults, SentinelCluster]) -> Faults:
    return behind_sentinel[0]


@pytest.fixture(scope="module")
def cluster(behind_sentinel: tuple[Faults, SentinelCluster]) -> SentinelCluster:
    return behind_sentinel[1]


def launches_through(faults: Faults, cluster: SentinelCluster, warm: SlowRepo, fault: Callable[[Server], None]) -> None:
    """Let the master fail under 50 launches, of which 10 have builds under way; check what their users get."""
    users_before = set(faults.stack.hub_users())
    repos = [faults.slow_repo() for _ in range(BUILDS)]
    building = [faults.stack.facade(repo.url, repo.sha, gateway=n % 2) for n, repo in enumerate(repos)]
    for following in building:
        following.until_message("line 20\n", 120)
    master = cluster.master
    starting = [faults.stack.facade(warm.url, warm.sha, gateway=n % 2) for n in range(WARM_LAUNCHES)]
    eventually(lambda: any(following.events for following in starting), "the first news of a launch")
    epochs_before = epochs(faults)

    fault(master)
    began = time.monotonic()
    cluster.until_moved(master)
    print(f"the next master after {time.monotonic() - began:.1f} s")
    for repo in repos:
        repo.end_build()
    followings = building + starting
    for following in followings:
        resume_until_ready(faults, following, began + BOUND_SECONDS)
    print(f"all ready after {time.monotonic() - began:.1f} s")

    epochs_after = epochs(faults)
    changed = {key: (epoch, epochs_after[key]) for key, epoch in epochs_before.items() if epochs_after[key] != epoch}
    assert not changed, f"changed owners: {changed}"
    for following in followings:
        faults.assert_server_answers(following.outcome())
    for repo, following in zip(repos, building, strict=True):
        repo.assert_no_line_twice(following)
        assert len(faults.build_ids(repo)) == 1
        assert repo.fetches == 1
    users = {name: servers for name, servers in faults.stack.hub_users().items() if name not in users_before}
    assert [len(servers) for servers in users.values()] == [1] * len(followings)
    servers = [session for session in faults.stack.sessions() if session.startswith("server ")]
    assert [sum(session.startswith(f"server {user}") for session in servers) for user in users] == [1] * len(users)


def resume_until_ready(faults: Faults, following: Following, deadline: float) -> None:
    """Wait for the outcome; where the stream breaks off, go on as a browser does."""
    while not following.terminal:
        assert time.monotonic() < deadline, f"not ready within {BOUND_SECONDS:g} s: {following.events[-3:]}"
        if following.is_broken:
            following.resume()
        eventually(
            lambda: following.terminal or following.is_broken,
            f"the end of a launch: {following.events[-3:]}",
            max(0.1, deadline - time.monotonic()),
        )


def test_a_master_killed_under_50_launches_and_10_builds_none_fails_and_none_is_done_twice(
    faults: Faults, cluster: SentinelCluster, warm: SlowRepo
) -> None:
    killed = cluster.master
    launches_through(faults, cluster, warm, Server.kill)
    killed.start()
    eventually(cluster.is_complete, "the killed server as a replica", 60)


def test_a_master_stopped_under_50_launches_and_10_builds_none_fails_and_none_is_done_twice(
    faults: Faults, cluster: SentinelCluster, warm: SlowRepo
) -> None:
    stopped = cluster.master
    try:
        launches_through(faults, cluster, warm, Server.pause)
    finally:
        stopped.resume()
    eventually(cluster.is_complete, "the stopped server as a replica", 60)
