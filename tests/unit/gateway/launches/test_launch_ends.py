"""However a launch ends without a server, its build is left and its server's start stopped."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import BuildState, LaunchState
from services.common.models.errors import BinderyError
from services.common.records import store
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.service import loops
from services.common.service.call_accounting import attributed_to
from services.common.service.tasks import cancel_and_wait, sleep_unless_cancelled
from services.gateway.launches import launches, side_effects
from services.gateway.launches.abandonment import Abandonment, WatchedLaunch
from services.gateway.launches.conductor import Conductor
from tests.support.in_process_gateway import open_gateway
from tests.support.metrics import sample
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")

BUILD = f"{'0' * 24}-1"


@pytest.mark.parametrize(
    ("spec", "stored_spec"),
    [
        ("https%3A%2F%2Fghp_hunter2%40example.org%2Fo%2Fr/HEAD", "https%3A%2F%2F***%40example.org%2Fo%2Fr/HEAD"),
        ("HTTP%3a%2f%2Fu%3Ahunter2@p@example.org/HEAD", "HTTP%3a%2f%2F***@example.org/HEAD"),
        ("https://u:hunter2@example.org/o/r/HEAD", "https://***@example.org/o/r/HEAD"),
        ("https%3A%2F%2Fexample.org%2Fo%2Fr%40v1/HEAD", "https%3A%2F%2Fexample.org%2Fo%2Fr%40v1/HEAD"),
        ("git%40example.org%3Ao%2Fr/HEAD", "git%40example.org%3Ao%2Fr/HEAD"),
    ],
)
async def test_the_login_of_a_link_is_kept_nowhere(valkey: Valkey, spec: str, stored_spec: str) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.raises["resolve"] = BinderyError("bad_spec")
        launch = await gateway.until_ended(await gateway.begin(spec), LaunchState.FAILED)
        assert launch.spec.spec == stored_spec
        stored = [await gateway.context.redis.dump(key) async for key in gateway.context.redis.scan_iter()]
        assert stored
        assert not any(b"hunter2" in value for value in stored if value)


async def test_a_build_that_was_cancelled_for_others_is_asked_for_again(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        for build in range(2):
            await gateway.until_build(build + 1)
            await gateway.until_state(launch, LaunchState.BUILDING)
            if not build:
                await gateway.backends.end_build(BuildState.CANCELLED, BinderyError("cancelled"))
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)


async def test_a_build_that_is_always_cancelled_is_not_asked_for_forever(valkey: Valkey) -> None:
    async with open_gateway(valkey, lost_builds_max=1) as gateway:
        launch = await gateway.begin()
        for build in range(2):
            await gateway.until_build(build + 1)
            await gateway.backends.end_build(BuildState.CANCELLED, BinderyError("cancelled"))
        error = (await gateway.until_ended(launch, LaunchState.FAILED)).error
        assert error
        assert error.code == "build_lost"


async def test_a_launch_asks_for_the_resource_class_that_it_was_begun_with(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin(resource_class="large")
        await gateway.until_build(1)
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        assert "start large" in gateway.backends.calls


async def test_cancelled_while_a_build_is_asked_for(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        reply = gateway.backends.hold["build"] = asyncio.Event()
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        reply.set()
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        assert gateway.backends.calls == ["resolve", "build", f"leave {BUILD} stop"]


@pytest.mark.parametrize("does_reply", [True, False])
async def test_cancelled_while_a_server_is_asked_for(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, does_reply: bool
) -> None:
    monkeypatch.setattr(side_effects, "SETTLE_SECONDS", 10.0 if does_reply else 0.05)
    async with open_gateway(valkey) as gateway:
        reply = gateway.backends.hold["start"] = asyncio.Event()
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until(lambda: "s" in gateway.backends.owned_records, "the server is there")
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        if does_reply:
            reply.set()
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        assert gateway.backends.calls[2:] == ["start", f"stop {launch.launch_ref} 0"]


async def test_a_cancel_is_repeated_only_after_a_write_has_waited_for_its_reply(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CANCEL_AGAIN_SECONDS", 0.01)
    cancels = 0
    is_writing = asyncio.Event()
    is_written = asyncio.Event()
    write = OwnedRecord.write

    async def slow_write(self: OwnedRecord, *events: Any, final: bool = False, **rest: Any) -> None:
        nonlocal cancels
        await write(self, *events, final=final, **rest)
        if final and not is_writing.is_set():
            is_writing.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels += 1
                try:
                    await asyncio.sleep(self.store.settle_seconds / 2)
                except asyncio.CancelledError:
                    cancels += 1
                is_written.set()
                raise

    async with open_gateway(valkey, redis_timeout_seconds=1.0) as gateway, asyncio.timeout(10):
        launch = await gateway.begin()
        await gateway.until_build(1)
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        monkeypatch.setattr(OwnedRecord, "write", slow_write)
        await gateway.backends.become_ready()
        await is_writing.wait()
        await gateway.launches.cancel_requests.request(launch.launch_id)
        await is_written.wait()
    assert cancels == 1


@pytest.mark.slow
async def test_a_launch_that_takes_too_long_stops_its_server(valkey: Valkey) -> None:
    async with open_gateway(valkey, launch_timeout_seconds=1.0) as gateway:
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        error = (await gateway.until_ended(launch, LaunchState.FAILED)).error
        assert error
        assert error.code == "launch_timeout"
        assert gateway.backends.calls[2:] == ["start", f"stop {launch.launch_ref} 0"]


@pytest.mark.parametrize("is_carried_out", [False, True])
async def test_cancelled_while_it_is_told_that_it_is_ready(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
) -> None:
    """The server is stopped, unless the launch had ended already: then it is the user's."""
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_build(1)
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        is_reached = asyncio.Event()
        write = OwnedRecord.write

        async def without_a_reply(self: OwnedRecord, *events: Any, final: bool = False, **rest: Any) -> None:
            is_held = final and not is_reached.is_set()
            if is_held:
                is_reached.set()
            if is_carried_out or not is_held:
                await write(self, *events, final=final, **rest)
            if is_held:
                await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(OwnedRecord, "write", without_a_reply)
            await gateway.backends.become_ready()
            async with asyncio.timeout(10):
                await is_reached.wait()
            await gateway.launches.cancel_requests.request(launch.launch_id)
            await gateway.until_ended(launch, LaunchState.READY if is_carried_out else LaunchState.CANCELLED)
        stopped = [] if is_carried_out else [f"stop {launch.launch_ref} 0"]
        assert gateway.backends.calls == ["resolve", "build", "start", *stopped]


async def test_a_launcher_that_gave_no_reply_is_told_to_stop(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.raises["start"] = BinderyError("launcher_unavailable")
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_ended(launch, LaunchState.FAILED)
        assert gateway.backends.calls[2:] == ["start", f"stop {launch.launch_ref} 0"]


async def test_a_build_that_failed_is_not_left(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.FAILED, BinderyError("build_failed"))
        await gateway.until_ended(launch, LaunchState.FAILED)
        assert gateway.backends.calls == ["resolve", "build"]


async def test_an_end_that_was_fenced_is_not_believed(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.until_state(launch, LaunchState.BUILDING)
        key = gateway.context.keys.record(Topic(Kind.LAUNCH, launch.launch_id))
        await gateway.context.redis.hset(key, "claim", "another's")
        await gateway.backends.end_build(BuildState.FAILED, BinderyError("build_failed"))
        await gateway.until_ended(launch, LaunchState.BUILDING)
        outcome, _ = await gateway.launches.outcome_of(launch.launch_id)
        assert outcome.state is LaunchState.BUILDING


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


async def test_work_that_ends_by_a_failed_call_over_http_does_not_wait_for_redis(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure of another service is a built-in error, as one of Redis may be."""
    calls = 0

    async def conduct(_conductor: Conductor) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError("another service, and not Redis")

    monkeypatch.setattr(Conductor, "conduct", conduct)
    async with open_gateway(valkey) as gateway:
        error = (await gateway.until_ended(await gateway.begin(), LaunchState.FAILED)).error
        assert error
        assert (error.code, calls) == ("internal", 1)


async def test_an_abandoned_launch_lets_its_build_finish(valkey: Valkey) -> None:
    async with open_gateway(valkey, abandoned_seconds=0.4) as gateway:
        launch = await gateway.begin()
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        assert gateway.backends.calls == ["resolve", "build", f"leave {BUILD} "]


@pytest.mark.slow
async def test_a_cancelled_launch_of_a_dead_gateway_stops_a_server_that_its_record_tells_nothing_of(
    valkey: Valkey,
) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.hold["build"] = asyncio.Event()
        launch = await gateway.begin()
        await gateway.until_build(1)
        member = gateway.launches.member
        await member.hand_over()
        key = gateway.context.keys.record(Topic(Kind.LAUNCH, launch.launch_id))
        await gateway.context.redis.hset(key, "cancel", "1")
    async with open_gateway(valkey) as gateway:
        async with asyncio.timeout(10):
            while not (await gateway.read_launch(launch)).state.is_final:
                await sleep_unless_cancelled(0.01)
        assert gateway.backends.calls[-1] == f"stop {launch.launch_ref} 0"
        assert "start" not in gateway.backends.calls


async def test_nothing_is_built_for_a_launch_that_would_get_no_seat(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.no_seat = BinderyError("quota_exceeded", "No servers of this kind are started here.")
        launch = await gateway.until_ended(await gateway.begin(), LaunchState.FAILED)
        assert launch.error
        assert launch.error.code == "quota_exceeded"
        assert gateway.backends.calls == ["resolve"]


async def test_a_cancel_that_reaches_no_launcher_is_stored_in_the_servers_record(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.raises["stop"] = BinderyError("launcher_unavailable")
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        stored = await gateway.context.records.read(gateway.backends.owned_records["s"].topic)
        assert stored
        assert (stored.get("cancel"), stored.get("given_up")) == ("1", "1")


async def test_launches_that_are_followed_elsewhere_are_marked_by_one_round_trip(valkey: Valkey) -> None:
    async with open_gateway(valkey) as owner, open_gateway(valkey) as other, AsyncExitStack() as followers:
        topics = []
        for _ in range(3):
            launch = await owner.begin()
            topics.append(Topic(Kind.LAUNCH, launch.launch_id))
            await followers.enter_async_context(other.context.bus.follow(topics[-1], lambda: None))

        before = sample("bindery_redis_round_trips_total", doing="mark")
        # Nothing else is counted under this label, not even the logins of new connections.
        with attributed_to("mark"):  # type: ignore[arg-type]  # the product has no such label
            await other.launches._mark_followed()
        assert sample("bindery_redis_round_trips_total", doing="mark") == before + 1
        for topic in topics:
            stored = await owner.context.records.read(topic)
            assert stored
            assert float(stored.get("seen", "0")) > 0


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


async def test_a_gateway_that_is_about_to_end_refuses_launches_at_once(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        await gateway.launches.member.hand_over()
        async with asyncio.timeout(5):
            with pytest.raises(BinderyError) as caught:
                await gateway.begin()
        problem = caught.value.problem
        assert (problem.code, problem.status, problem.retry_after_seconds) == ("gateway_unavailable", 503, 1)
