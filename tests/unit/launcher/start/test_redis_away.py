"""Redis is away for less or more than a start's patience: healthy starts go on, and nothing is removed."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from services.common.models import ServerState
from services.common.streams.log_store import stream_entries
from services.launcher.servers import server_topic
from services.launcher.start import start as starting
from tests.load.stub_http import Answer
from tests.support.in_process_launcher import AS_ALWAYS, FakeHub, Launcher, begins, open_launcher
from tests.support.polling import until
from tests.support.valkey import Valkey

PATIENCE_SECONDS = 1.0
STARTS = 4


def slow_start(*, steps: int = 20) -> Answer:
    """Return a progress stream with a step each 0.1 s, and then silence."""
    events = [{"progress": number, "message": f"step {number}"} for number in range(steps)]
    return begins(b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events), every_seconds=0.1)


async def all_ready(launcher: Launcher, server_ids: Sequence[str]) -> bool:
    servers = [await launcher.servers.read(server_id) for server_id in server_ids]
    assert ServerState.FAILED not in {server.state for server in servers}
    return all(server.state is ServerState.READY for server in servers)


async def terminal_states(launcher: Launcher, server_id: str) -> list[object]:
    entries = await stream_entries(launcher.context.redis, launcher.context.keys, server_topic(server_id))
    events = [event for entry in entries for event in entry.events]
    return [event.get("state") for event in events if event.get("terminal")]


@pytest.mark.slow
@pytest.mark.parametrize(("patiences", "lease_seconds"), [(0.5, 20), (1.2, 20), (1.9, 20), (2.5, 20), (1.9, 0.5)])
async def test_starts_go_on_after_redis_was_away(
    own_valkey: Valkey, hub: FakeHub, patiences: float, lease_seconds: float
) -> None:
    settings = {"redis_patience_seconds": PATIENCE_SECONDS, "lease_seconds": lease_seconds, "hub_silence_seconds": 1.0}
    async with open_launcher(own_valkey, hub, **settings) as launcher:
        hub.answer("GET", "/progress", *[slow_start()] * STARTS, AS_ALWAYS)
        servers = [await launcher.request_server(f"ref-{number}") for number in range(STARTS)]
        for server in servers:
            await launcher.until_message(server, "step 1")

        await own_valkey.be_away(patiences * PATIENCE_SECONDS)

        server_ids = [server.server_id for server in servers]
        await until(lambda: all_ready(launcher, server_ids), "all starts are ready")
        assert [await terminal_states(launcher, server_id) for server_id in server_ids] == [["ready"]] * STARTS
    assert len(hub.users) == STARTS
    assert not [call for call in hub.calls if call.startswith("DELETE")]


@pytest.mark.slow
async def test_a_wait_for_redis_is_not_part_of_a_starts_time(
    own_valkey: Valkey, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    settings = {"server_start_timeout_seconds": 2.0, "server_start_untold_seconds": 2.0, "hub_silence_seconds": 0.5}
    async with open_launcher(own_valkey, hub, **settings) as launcher:
        hub.answer("GET", "/progress", slow_start(steps=8), AS_ALWAYS)
        server = await launcher.request_server()
        await launcher.until_message(server, "step 1")
        await own_valkey.be_away(3.0)
        outcome = await launcher.outcome(server)
    assert outcome.state is ServerState.READY


@pytest.mark.slow
async def test_a_start_that_is_cancelled_while_redis_is_away_ends_cancelled_when_it_is_back(
    own_valkey: Valkey, hub: FakeHub
) -> None:
    async with open_launcher(own_valkey, hub, redis_patience_seconds=PATIENCE_SECONDS) as launcher:
        hub.answer("GET", "/progress", slow_start())
        server = await launcher.request_server()
        await launcher.until_message(server, "step 1")
        # Nobody has told the launcher of the request when Redis goes.
        await launcher.context.records.set_field(server_topic(server.server_id), "cancel", "1")
        own_valkey.kill()
        await asyncio.sleep(1.5 * PATIENCE_SECONDS)
        assert not [call for call in hub.calls if call.startswith("DELETE")]
        await asyncio.to_thread(own_valkey.start)

        async def is_cancelled() -> bool:
            return (await launcher.servers.read(server.server_id)).state is ServerState.FAILED

        await until(is_cancelled)
        await until(lambda: not hub.users, "its user is removed")
        assert await terminal_states(launcher, server.server_id) == ["failed"]
