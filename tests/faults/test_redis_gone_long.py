"""Redis gone for half a minute, and for two minutes, with the leases and the patience that are set by default."""

import contextlib
from contextlib import AbstractContextManager

import pytest

from tests.support.faults import Faults, SlowRepo
from tests.support.faults_under_way import LaunchesUnderWay, assert_no_zombie
from tests.support.polling import eventually
from tests.support.redis_faults import unreachable, wait

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.usefixtures("nothing_is_left")]

STALL_SECONDS = 30.0
AWAY_SECONDS = 120.0
"""Twice the patience (redis_patience_seconds)."""
REQUESTED_AWAY_SECONDS = 85.0
"""So long that the launcher has given Redis up, and the gateway the launcher (stage_timeout_seconds): after 60 s."""
READY_AFTER_SECONDS = 20.0
BOUND_SECONDS = 45.0
"""After the end of the fault: leases are taken again, records adopted at a pace, and what was under way ends."""


def test_redis_stopped_for_half_a_minute_no_owner_changes(faults: Faults, warm: SlowRepo) -> None:
    launches = LaunchesUnderWay(faults, warm)
    with faults.stack.paused("redis"):
        launches.request_more()
        wait(STALL_SECONDS)
    launches.until_requested_goes_on()
    launches.assert_no_owner_changed()
    launches.finish(seconds=BOUND_SECONDS)
    launches.assert_hub_called_once()
    assert_no_zombie(faults)


@pytest.mark.parametrize("how", ["stopped", "unreachable"])
def test_redis_away_for_two_minutes_starts_and_builds_go_on(faults: Faults, warm: SlowRepo, how: str) -> None:
    """The server becomes ready while Redis is away: a start that takes two minutes would have failed anyway."""
    launches = LaunchesUnderWay(faults, warm)
    fault: AbstractContextManager[object] = (
        faults.stack.paused("redis") if how == "stopped" else unreachable(faults.stack)
    )
    with fault:
        wait(READY_AFTER_SECONDS)
        launches.start_server()
        wait(AWAY_SECONDS - READY_AFTER_SECONDS)
    launches.finish(seconds=BOUND_SECONDS)
    assert_no_zombie(faults)
    assert faults.stack.parts() == launches.before.pids, "a process has ended"


def test_redis_stopped_while_the_launcher_is_asked_the_launch_goes_on(faults: Faults, warm: SlowRepo) -> None:
    """The launcher has the gateway's request, and waits for Redis for as long as the gateway waits for the launcher."""
    before = set(faults.stack.hub_users())

    def calls() -> float:
        return faults.stack.metric("gateway", "bindery_http_calls_total", 'doing="work",peer="launcher"')

    with contextlib.ExitStack() as redis_paused:
        with faults.stack.paused("launcher"):
            calls_before = calls()
            following = faults.stack.facade(warm.url, warm.sha)
            eventually(lambda: calls() > calls_before, "a call of the launcher")
            redis_paused.enter_context(faults.stack.paused("redis"))
        wait(REQUESTED_AWAY_SECONDS)
    faults.assert_ready_with_one_server(following, before)
    assert_no_zombie(faults)
