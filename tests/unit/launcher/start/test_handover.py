"""Starts that another process adopts, or that the hub repeats: nothing is requested, announced or granted twice."""

import asyncio
import json
import time

import pytest

from services.common.models import ServerState
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.start import start as starting
from tests.load.stub_http import Answer
from tests.support.in_process_launcher import AS_ALWAYS, FakeHub, Launcher, StartLauncher, begins
from tests.support.valkey import Valkey, another_context

JSON = "application/json"
REQUESTED = {"progress": 0, "message": "Server requested"}
PULLING = {"progress": 10, "message": 'Pulling image "a:1"'}
STARTED = {"progress": 50, "message": "Container started"}


def _events(*events: dict[str, object]) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)


def _progress(*events: dict[str, object]) -> Answer:
    return 200, "text/event-stream", _events(*events), {}


def _starts_still(hub: FakeHub) -> None:
    """The hub reports the start as pending."""
    model = {"name": "x", "servers": {"": {"ready": False, "pending": "spawn"}}}
    hub.answer("GET", "", (200, JSON, json.dumps(model).encode(), {}))


async def _leave(valkey: Valkey, launcher: Launcher, **moved: float) -> None:
    """Hand everything over; it was created at another time."""
    await launcher.member.hand_over()
    async with another_context(valkey, installation_id="test") as context:
        for key in await context.redis.keys(context.keys("{s:*}:record")):
            body = json.loads(await context.redis.hget(key, "body"))
            await context.redis.hset(key, "body", json.dumps(body | moved))


@pytest.mark.slow
async def test_starts_that_wait_for_their_turn_still_wait_for_it_when_they_are_handed_over(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub
) -> None:
    hub.answer("GET", "/progress", begins(_events(REQUESTED)))
    async with start_launcher(hub_concurrent_spawns=1) as launcher:
        first, *other_servers = [await launcher.request_server(name) for name in ("first", "second", "third")]
        await launcher.until_message(first, "Server requested")
        for other in other_servers:
            await launcher.until_message(other, "waits for its turn")
        await _leave(valkey, launcher, created_at=time.time() - 400)
    hub.calls.clear()
    later = {"hub_silence_seconds": 2, "server_start_timeout_seconds": 600}
    async with start_launcher(counts=False, hub_concurrent_spawns=1, **later) as launcher:
        async with asyncio.timeout(60):
            while not any(
                [(await launcher.messages(other)).count("waits for its turn") > 1 for other in other_servers]
            ):
                await sleep_unless_cancelled(0.01)
        # The one that was under way, and at most one more: it may be taken up before that one is.
        assert len({call.split("/")[4] for call in hub.calls if call.endswith("/servers/")}) <= 2
        hub.answer("GET", "/progress", AS_ALWAYS)
        for server in (first, *other_servers):
            async with asyncio.timeout(20):
                while not (current := await launcher.servers.read(server.server_id)).ready_at:
                    assert not current.state.is_final
                    await sleep_unless_cancelled(0.01)


@pytest.mark.slow
async def test_a_start_that_waited_for_its_turn_has_all_of_its_time_when_it_is_handed_over(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.1)
    hub.answer("GET", "/progress", begins(_events(REQUESTED)))
    async with start_launcher(hub_concurrent_spawns=1) as launcher:
        first, second = [await launcher.request_server(name) for name in ("first", "second")]
        await launcher.until_message(first, "Server requested")
        await launcher.until_message(second, "waits for its turn")
        await _leave(valkey, launcher, created_at=time.time() - 400)
    async with start_launcher(hub_silence_seconds=0.5) as launcher:
        await launcher.until_message(second, "Server requested")
        hub.answer("GET", "/progress", AS_ALWAYS)
        async with asyncio.timeout(60):
            while not (current := await launcher.servers.read(second.server_id)).ready_at:
                assert not current.state.is_final
                await sleep_unless_cancelled(0.01)


async def test_messages_that_the_hub_repeats_are_announced_once(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher() as launcher:
        hub.answer("GET", "/progress", _progress(REQUESTED, PULLING), _progress(REQUESTED, PULLING, STARTED), AS_ALWAYS)
        _starts_still(hub)
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        messages = await launcher.messages(server)
        steps = ("Server requested", "Pulling image", "Container started")
        assert [messages.count(step) for step in steps] == [1, 1, 1]


async def test_a_start_that_begins_again_announces_its_steps_again(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("POST", "/servers/", (202, JSON, b"", {}), AS_ALWAYS)
    hub.answer("GET", "/progress", _progress(REQUESTED, PULLING), _progress(REQUESTED, PULLING), AS_ALWAYS)
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert (await launcher.messages(server)).count("Pulling image") == 2


async def test_an_adopted_start_does_not_repeat_its_announcements(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub
) -> None:
    hub.answer("GET", "/progress", begins(_events(REQUESTED, PULLING)))
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        await launcher.until_message(server, "Pulling image")
        await _leave(valkey, launcher)
    hub.answer(
        "GET", "/progress", _progress(REQUESTED, PULLING, STARTED, {"ready": True, "is_sure": True, "message": "Up"})
    )
    async with start_launcher() as launcher:
        await launcher.until_message(server, "Up")
        messages = await launcher.messages(server)
        steps = ("Server requested", "Pulling image", "Container started")
        assert [messages.count(step) for step in steps] == [1, 1, 1]


@pytest.mark.parametrize(("image_pull_timeout_seconds", "code"), [(600, None), (0.1, "image_pull_timeout")])
@pytest.mark.slow
async def test_a_pull_that_is_told_again_has_the_time_that_it_had(
    start_launcher: StartLauncher,
    valkey: Valkey,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    image_pull_timeout_seconds: float,
    code: str | None,
) -> None:
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.3)
    pull = {"image_pull_timeout_seconds": image_pull_timeout_seconds}
    hub.answer("GET", "/progress", begins(_events(REQUESTED, PULLING)))
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        await launcher.until_message(server, "Pulling image")
        await _leave(valkey, launcher, created_at=time.time() - 400)
    async with start_launcher(retry_pause_seconds=0.2, **pull) as launcher:
        hub.answer("GET", "/progress", *[_progress(REQUESTED, PULLING)] * 4, AS_ALWAYS)  # ready after 0.2 + 0.4 + 0.8 s
        _starts_still(hub)
        async with asyncio.timeout(60):
            while (
                not (current := await launcher.servers.read(server.server_id)).ready_at and not current.state.is_final
            ):
                await sleep_unless_cancelled(0.01)
        assert (current.error.code if current.error else None) == code
