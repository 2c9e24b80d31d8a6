"""Starts at a hub that falls silent, is being stopped, fails, or does not know our token any more."""

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import Event, Server, ServerState
from services.common.models.errors import BinderyError
from services.common.records.owned_record import Ending, OwnedRecord, PendingWrite
from services.common.streams.log_store import stream_entries
from services.common.streams.positions import STREAM_START
from services.gateway.backends import RETRYABLE_CODES
from services.launcher.servers import server_topic
from services.launcher.start import start as starting
from tests.load.stub_http import Answer
from tests.support.in_process_launcher import AS_ALWAYS, NOTHING, FakeHub, Launcher, StartLauncher, begins

JSON = "application/json"
REQUESTED = {"progress": 0, "message": "Server requested"}
READY = {"progress": 100, "ready": True, "message": "Server ready at /user/x/"}


def _says(status: int, message: str) -> Answer:
    return status, JSON, json.dumps({"status": status, "message": message}).encode(), {}


def _events(*events: dict[str, object]) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)


def _progress(*events: dict[str, object]) -> Answer:
    return 200, "text/event-stream", _events(*events), {}


def _server(**model: object) -> Answer:
    return 200, JSON, json.dumps({"name": "x", "servers": {"": model}}).encode(), {}


async def _terminal_states(launcher: Launcher, server: Server) -> list[object]:
    context = launcher.context
    entries = await stream_entries(context.redis, context.keys, server_topic(server.server_id))
    return [event.get("state") for entry in entries for event in entry.events if event.get("terminal")]


async def test_a_hub_that_falls_silent_in_mid_stream_is_asked_again(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/progress", begins(_events(REQUESTED)), AS_ALWAYS)
    async with start_launcher(hub_silence_seconds=0.3) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert "the progress stream broke (it sent nothing for 0.3 s)" in await launcher.messages(server)


@pytest.mark.slow
async def test_a_hub_that_stays_silent_is_unavailable(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("GET", "/progress", begins(_events(REQUESTED)))
    async with start_launcher(hub_silence_seconds=0.1, hub_patience_seconds=0.5) as launcher:
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "hub_unavailable"


@pytest.mark.slow
async def test_a_stream_that_told_much_before_it_broke_costs_no_more_patience_than_its_silence(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    events = _events(*({"progress": number, "message": f"step {number}"} for number in range(6)))
    hub.answer("GET", "/progress", begins(events, every_seconds=0.3), AS_ALWAYS)
    async with start_launcher(hub_silence_seconds=0.8, hub_patience_seconds=1.4) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert "step 5" in await launcher.messages(server)


async def test_a_call_that_gets_no_answer_is_made_again(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("POST", "/servers/", NOTHING, AS_ALWAYS)
    async with start_launcher(hub_timeout_seconds=0.2) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        messages = await launcher.messages(server)
        assert (
            "JupyterHub could not start the server yet (no answer (it sent nothing for 0.2 s)); asking again."
            in messages
        )


async def test_a_token_that_is_revoked_in_mid_launch_is_said_at_once(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/progress", _says(403, "Missing or invalid credentials."))
    async with start_launcher() as launcher:
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "hub_token_refused"
        assert sum(call.endswith("/progress") for call in hub.calls) == 1


@pytest.mark.parametrize("status", [400, 409])
async def test_a_start_waits_for_a_server_of_its_name_that_still_stops(
    start_launcher: StartLauncher, hub: FakeHub, status: int
) -> None:
    async with start_launcher() as launcher:
        hub.answer("POST", "/servers/", _says(status, "x is pending stop"), AS_ALWAYS)
        hub.answer("GET", "", _server(ready=False, pending="stop"), AS_ALWAYS)
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert "the server's stop is not done yet" in await launcher.messages(server)


async def test_a_hub_of_ours_is_believed_and_asked_no_more(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        assert [call.replace(server.user, "x") for call in hub.calls] == [
            "POST /hub/api/users/x", "POST /hub/api/users/x/servers/", "GET /hub/api/users/x/server/progress",
        ]  # fmt: skip


async def test_a_ready_that_is_not_sure_is_confirmed(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("GET", "/progress", _progress(REQUESTED, READY), AS_ALWAYS)
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        assert server.state is ServerState.READY
        assert hub.calls[-1] == f"GET /hub/api/users/{server.user}"


async def test_a_ready_message_that_the_hub_does_not_confirm_is_ignored(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", (202, JSON, b"", {}), AS_ALWAYS)
    hub.answer("GET", "/progress", _progress(REQUESTED, READY), AS_ALWAYS)
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        assert server.state is ServerState.READY
        assert sum(call.endswith("/servers/") for call in hub.calls) == 2
        assert (await launcher.messages(server)).count("Server ready") == 1


async def test_a_start_that_fails_without_a_word_is_the_hubs_and_is_made_again(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    failed = _progress(REQUESTED, {"failed": True, "message": "Spawn failed"})
    hub.answer("GET", "/progress", failed, AS_ALWAYS)
    async with start_launcher() as launcher:
        assert (await launcher.outcome(await launcher.request_server("again"))).state is ServerState.READY
    hub.answer("GET", "/progress", failed)
    async with start_launcher(hub_retries_max=3) as launcher:
        outcome = await launcher.outcome(await launcher.request_server("for good"))
        assert outcome.error
        assert outcome.error.code == "hub_unavailable"


async def test_a_hub_that_waited_no_longer_has_not_failed_by_itself(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/progress", _progress(REQUESTED, {"failed": True, "message": "Spawn failed: "}))
    async with start_launcher() as launcher:
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "server_start_timeout"


@pytest.mark.slow
async def test_a_start_whose_time_is_up_while_the_hub_is_away_is_not_the_authors(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    hub.answer("GET", "/progress", _says(503, "away"))
    async with start_launcher(server_start_timeout_seconds=0.5, hub_retries_max=1000) as launcher:
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "hub_unavailable"


async def test_a_start_whose_ready_got_no_answer_stays_ready_and_has_one_end(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OwnedRecord.write
    topic_ids = []

    async def loses_the_answer(self: OwnedRecord, *events: Event, **options: Any) -> None:
        await write(self, *events, **options)
        if options.get("release") and events:
            topic_ids.append(self.topic.id)
            raise RedisConnectionError("no answer")

    monkeypatch.setattr(OwnedRecord, "write", loses_the_answer)
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        async with launcher.context.bus.follow(server_topic(server.server_id), lambda: None) as reader:
            events = [event for entry in await reader.after(STREAM_START) for event in entry.events]
    assert topic_ids == [server.server_id]
    assert [event["state"] for event in events if event.get("terminal")] == ["ready"]
    assert hub.users


@pytest.mark.slow
async def test_a_start_whose_ready_could_not_be_written_writes_it_again(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OwnedRecord._call_write_script
    broken: list[PendingWrite] = []

    async def breaks(self: OwnedRecord, pending: PendingWrite, **options: Any) -> Any:
        if pending.ending is Ending.RELEASE and not broken:
            broken.append(pending)
            raise ValueError("not known to the client")
        return await write(self, pending, **options)

    monkeypatch.setattr(OwnedRecord, "_call_write_script", breaks)
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert broken
        assert await _terminal_states(launcher, server) == ["ready"]
        assert not [call for call in hub.calls if call.startswith("DELETE")]


async def test_a_start_that_is_cancelled_as_it_is_about_to_write_ready_ends_all_the_same(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OwnedRecord.write
    waits = asyncio.Event()

    async def waits_at_first(self: OwnedRecord, *events: Event, **options: Any) -> None:
        if options.get("release") and not waits.is_set():
            waits.set()  # for another write of this record, which a check of the records makes, say
            await asyncio.Event().wait()
        await write(self, *events, **options)

    monkeypatch.setattr(OwnedRecord, "write", waits_at_first)
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        await waits.wait()
        await launcher.servers.cancel_requests.request(server.server_id)
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert await _terminal_states(launcher, server) == ["ready"]


async def test_a_spawner_that_waited_for_an_answer_as_long_as_we_do_says_why_first(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    started = {"progress": 50, "message": "Container started"}
    closed = {"failed": True, "message": "Spawn failed: Server at http://10.1.2.3:8888/ didn't respond in 1 seconds."}
    async with start_launcher(server_start_timeout_seconds=1, retry_pause_seconds=1.5) as launcher:
        hub.answer("GET", "/progress", _progress(started), _progress(started, closed))
        hub.answer("GET", "", _server(ready=False, pending="spawn"))
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "server_port_closed"


async def test_a_launcher_that_is_about_to_end_refuses_servers_at_once(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher() as launcher:
        await launcher.member.hand_over()
        async with asyncio.timeout(60):
            with pytest.raises(BinderyError) as caught:
                await launcher.request_server()
        assert caught.value.has_code("launcher_unavailable")
        assert caught.value.code in RETRYABLE_CODES
        assert not hub.calls
