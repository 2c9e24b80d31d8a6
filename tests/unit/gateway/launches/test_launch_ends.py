"""However a launch ends without a server, its build is left and its server's start stopped."""

import asyncio
from typing import Any

import pytest

from services.common.models import BuildState, LaunchState
from services.common.models.errors import BinderyError
from services.common.records import store
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from services.common.service.tasks import sleep_unless_cancelled
from services.gateway.launches import side_effects
from services.gateway.launches.conductor import Conductor
from services.gateway.launches.launches import Launches
from tests.support.in_process_gateway import open_gateway
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


async def test_an_adopted_launch_that_was_cancelled_before_is_only_ended(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its former gateway has left the build, say, which was stopped for that: it must not be built again."""
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.BUILDING)
        await gateway.context.records.set_field(Topic(Kind.LAUNCH, launch.launch_id), "cancel", "1")

    conducted: list[str] = []

    async def conduct(self: Conductor) -> None:
        conducted.append(self.launch.launch_id)
        await asyncio.Event().wait()

    monkeypatch.setattr(Conductor, "conduct", conduct)
    async with open_gateway(valkey) as successor:
        await successor.until(lambda: len(successor.backends.calls) == 2, "it undoes what was requested")
        await successor.until_ended(launch, LaunchState.CANCELLED)
        assert successor.backends.calls == [f"leave {BUILD} stop", f"stop {launch.launch_ref} 0"]
    assert conducted == []


async def test_a_cancel_amid_a_takeover_takes_effect_at_once(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded when the new gateway has read the record, and its message comes before that expects one."""
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.BUILDING)

    is_heard = asyncio.Event()
    hear, adopt = CancelRequests.on_message, Launches.adopt

    def on_message(self: CancelRequests, message: bytes) -> None:
        hear(self, message)
        if message.startswith(b"cancel "):
            is_heard.set()

    async def cancel_first(self: Launches, record: OwnedRecord, stored: StoredRecord) -> None:
        assert await self.cancel_requests.request(launch.launch_id)
        await is_heard.wait()
        await adopt(self, record, stored)

    monkeypatch.setattr(CancelRequests, "on_message", on_message)
    monkeypatch.setattr(Launches, "adopt", cancel_first)
    async with (
        open_gateway(valkey, reread_seconds=600) as successor,
        background_tasks(successor.launches.cancel_requests.poll()),
    ):
        await successor.until(is_heard.is_set, "it is taken over")
        await successor.until_ended(launch, LaunchState.CANCELLED)


async def test_a_launch_that_is_given_up_says_by_which_owner(valkey: Valkey) -> None:
    """So the launcher knows if another gateway has gone on with it: this one may be stopped at any moment."""
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.BUILDING)

    async with open_gateway(valkey) as successor:
        await successor.until(lambda: launch.launch_id in successor.launches.cancel_requests, "it is taken over")
        stored = await successor.context.records.read(Topic(Kind.LAUNCH, launch.launch_id))
        assert stored
        assert stored.epoch > 1
        await successor.launches.cancel(launch.launch_id, "anon:x")
        await successor.until_ended(launch, LaunchState.CANCELLED)
        assert successor.backends.stop_epochs == [stored.epoch]


async def test_a_server_that_no_launcher_can_stop_is_left_to_the_launchs_next_owner(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        gateway.backends.raises["stop"] = BinderyError("launcher_unavailable")
        reply = gateway.backends.hold["stop"] = asyncio.Event()
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        server = gateway.backends.owned_records[Kind.SERVER].topic
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        await gateway.until(lambda: gateway.backends.stop_epochs == [1], "the launcher is asked to stop it")
        topic = Topic(Kind.LAUNCH, launch.launch_id)
        await gateway.context.redis.hset(gateway.context.keys.record(topic), "epoch", 2)
        reply.set()
        await gateway.until(lambda: not gateway.launches.member.owns(topic), "it has done what it can")
        stored = await gateway.context.records.read(server)
        assert stored
        assert (stored.get("given_up"), stored.get("cancel")) == ("", "")


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

    async with open_gateway(valkey, redis_timeout_seconds=1.0) as gateway, asyncio.timeout(60):
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
            async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
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
        assert (stored.get("cancel"), stored.get("given_up")) == ("1", "epoch 1")


async def test_a_gateway_that_is_about_to_end_refuses_launches_at_once(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        await gateway.launches.member.hand_over()
        async with asyncio.timeout(60):
            with pytest.raises(BinderyError) as caught:
                await gateway.begin()
        problem = caught.value.problem
        assert (problem.code, problem.status, problem.retry_after_seconds) == ("gateway_unavailable", 503, 1)
