"""Launches and their followers: which launch is abandoned, and how it is told that one is followed."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import BuildState, Launch, LaunchState
from services.common.redis.keys import Kind, Topic
from services.common.service import loops
from services.common.service.call_accounting import attributed_to
from services.common.service.clock import clock
from services.common.service.tasks import cancel_and_wait
from services.gateway.launches import launches
from services.gateway.launches.abandonment import Abandonment, WatchedLaunch
from tests.support.in_process_gateway import Gateway, open_gateway
from tests.support.metrics import sample
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")

BUILD = f"{'0' * 24}-1"


@dataclass
class ClockAhead:
    """How far the shared clock is moved forward, in seconds."""

    seconds: float = 0.0


@pytest.fixture
def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> ClockAhead:
    ahead = ClockAhead()
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + ahead.seconds)
    return ahead


def watched_by(gateway: Gateway) -> dict[str, WatchedLaunch]:
    """Return what a gateway watches for followers, by the launch's id."""
    return {watched.conductor.launch.launch_id: watched for watched in gateway.launches.abandonment._watched}


def is_abandoned(gateway: Gateway, launch: Launch) -> bool:
    """Return whether the last look has found that nobody follows a launch; its own task hears of it a moment later."""
    return watched_by(gateway)[launch.launch_id].is_abandoned.is_set()


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.slow
async def test_a_launch_that_nobody_follows_gives_up_its_place_in_the_queue(valkey: Valkey, detached: bool) -> None:
    async with open_gateway(valkey, abandoned_seconds=0.8) as gateway:
        gateway.backends.place = 3
        launch = await gateway.begin(detached=detached)
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.WAITING)
        if not detached:
            error = (await gateway.until_ended(launch, LaunchState.CANCELLED)).error
            assert error
            assert error.code == "abandoned"
            assert gateway.backends.calls[2:] == ["start", f"stop {launch.launch_ref} 0"]
            return
        follower = await gateway.begin()  # by the time this one is abandoned, the other one would have been
        await gateway.until_ended(follower, LaunchState.CANCELLED)
        assert (await gateway.read_launch(launch)).state is LaunchState.WAITING


async def test_a_launch_of_which_it_is_unknown_who_follows_it_is_not_abandoned(valkey: Valkey) -> None:
    before = sample("bindery_loop_failures_total", loop="abandonment")
    async with open_gateway(valkey, abandoned_seconds=0.8) as gateway:
        launch = await gateway.begin()
        key = gateway.context.keys.record(Topic(Kind.LAUNCH, launch.launch_id))
        await gateway.context.redis.hset(key, "seen", "damaged")
        await gateway.until_build(1)
        began_at = time.monotonic()
        await gateway.until(
            lambda: (
                sample("bindery_loop_failures_total", loop="abandonment") >= before + 3
                and time.monotonic() - began_at > 1.6
            ),
            "the look has failed for twice the time after which a launch is abandoned",
        )
        assert (await gateway.read_launch(launch)).state is LaunchState.BUILDING

        # It is known again: nobody follows. The time begins with that.
        repaired_at = time.monotonic()
        await gateway.context.redis.hset(key, "seen", "0")
        error = (await gateway.until_ended(launch, LaunchState.CANCELLED)).error
        assert error
        assert error.code == "abandoned"
        assert time.monotonic() - repaired_at >= 0.4


async def test_an_abandoned_launch_lets_its_build_finish(valkey: Valkey) -> None:
    async with open_gateway(valkey, abandoned_seconds=0.4) as gateway:
        launch = await gateway.begin()
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        assert gateway.backends.calls == ["resolve", "build", f"leave {BUILD} "]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_launches_that_are_followed_are_marked_by_one_round_trip(valkey: Valkey, where: str) -> None:
    async with open_gateway(valkey) as owner, open_gateway(valkey) as other, AsyncExitStack() as followers:
        followed_by = owner if where == "here" else other
        topics = []
        for _ in range(3):
            launch = await owner.begin()
            topics.append(Topic(Kind.LAUNCH, launch.launch_id))
            await followers.enter_async_context(followed_by.context.bus.follow(topics[-1], lambda: None))

        before = sample("bindery_redis_round_trips_total", doing="mark")
        # Nothing else is counted under this label, not even the logins of new connections.
        with attributed_to("mark"):  # type: ignore[arg-type]  # the product has no such label
            await followed_by.launches._mark_followed()
        assert sample("bindery_redis_round_trips_total", doing="mark") == before + 1
        for topic in topics:
            stored = await owner.context.records.read(topic)
            assert stored
            assert float(stored.get("seen", "0")) > 0


@pytest.mark.parametrize("was_followed", [False, True])
async def test_the_time_without_followers_goes_on_when_a_launch_is_taken_over(
    valkey: Valkey, clock_ahead: ClockAhead, was_followed: bool
) -> None:
    async with open_gateway(valkey, abandoned_seconds=1200.0) as gateway:
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.BUILDING)
        topic = Topic(Kind.LAUNCH, launch.launch_id)
        if was_followed:
            clock_ahead.seconds = 400.0
            async with gateway.context.bus.follow(topic, lambda: None):
                await gateway.launches._mark_followed()

    clock_ahead.seconds += 1000.0
    async with open_gateway(valkey, abandoned_seconds=1200.0) as successor:
        await successor.until(lambda: launch.launch_id in watched_by(successor), "the launch is taken over")
        clock_ahead.seconds += 500.0  # its followers have 600 to come back
        await successor.launches.abandonment._look()
        assert not is_abandoned(successor, launch)
        clock_ahead.seconds += 110.0
        await successor.launches.abandonment._look()
        error = (await successor.until_ended(launch, LaunchState.CANCELLED)).error
        assert error
        assert error.code == "abandoned"


async def test_a_launch_that_was_followed_shortly_before_it_is_taken_over_has_the_rest_of_its_time(
    valkey: Valkey, clock_ahead: ClockAhead
) -> None:
    async with open_gateway(valkey, abandoned_seconds=1200.0) as gateway:
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.BUILDING)
        topic = Topic(Kind.LAUNCH, launch.launch_id)
        clock_ahead.seconds = 5000.0
        async with gateway.context.bus.follow(topic, lambda: None):
            await gateway.launches._mark_followed()

    async with open_gateway(valkey, abandoned_seconds=1200.0) as successor:
        await successor.until(lambda: launch.launch_id in watched_by(successor), "the launch is taken over")
        clock_ahead.seconds += 1000.0
        await successor.launches.abandonment._look()
        assert not is_abandoned(successor, launch)


@pytest.mark.slow
async def test_a_launch_that_is_followed_elsewhere_is_not_abandoned_for_a_long_outage(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "RETRY_MAX_SECONDS", 0.1)
    settings = {"abandoned_seconds": 2.0, "redis_timeout_seconds": 1.0}
    read_seen = Abandonment._read_seen
    looks = 0

    async def count_look(self: Abandonment, watched: list[WatchedLaunch]) -> None:
        nonlocal looks
        await read_seen(self, watched)
        looks += 1

    monkeypatch.setattr(Abandonment, "_read_seen", count_look)
    async with open_gateway(own_valkey, **settings) as owner, open_gateway(own_valkey, **settings) as other:
        launch = await owner.begin()
        await owner.until_state(launch, LaunchState.BUILDING)
        async with other.context.bus.follow(Topic(Kind.LAUNCH, launch.launch_id), lambda: None):
            await other.launches._mark_followed()
            await own_valkey.be_away(1.25 * settings["abandoned_seconds"])
            looks = 0
            await owner.until(lambda: looks >= 3, "the owner looks before the other gateway comes to its mark")
            await other.launches._mark_followed()
            assert (await owner.read_launch(launch)).state is LaunchState.BUILDING
        await owner.until_ended(launch, LaunchState.CANCELLED)


@pytest.mark.slow
async def test_the_mark_of_a_follower_is_made_again_soon_after_an_outage(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "RETRY_MAX_SECONDS", 0.1)
    calls = 0

    def away(_kind: Kind) -> list[Topic]:
        nonlocal calls
        calls += 1
        raise RedisConnectionError("away")

    async with open_gateway(valkey, abandoned_seconds=4.0) as gateway:
        monkeypatch.setattr(gateway.context.bus, "followed_topics", away)
        marking = asyncio.create_task(gateway.launches.keep_followed_alive())
        await gateway.until(lambda: calls > 15, "the mark is tried often", seconds=5)  # each half second usually
        await cancel_and_wait(marking)
