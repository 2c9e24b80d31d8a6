"""The reaper deletes by name: a server that a listing skipped is not gone."""

import json
from collections.abc import AsyncIterator

import pytest

from services.common.models import Server, ServerState
from tests.support.launcher import FakeHub, Launcher, open_launcher, running_hub
from tests.support.valkey import Valkey

ARMED = {"reap_disarmed_seconds": -1.0}


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with running_hub() as hub:
        yield hub


async def _ready(launcher: Launcher, launch_ref: str) -> Server:
    server = await launcher.ended(await launcher.ask(launch_ref))
    assert server.state is ServerState.READY
    return server


async def _reap(launcher: Launcher) -> None:
    await launcher.reaper.reap()  # the first one finds Redis empty, and says since when it is known
    await launcher.reaper.reap()


async def test_a_server_that_the_listing_skips_stays(valkey: Valkey, redis: object, hub: FakeHub) -> None:
    async with open_launcher(valkey, hub, **ARMED) as launcher:
        server = await _ready(launcher, "skipped")
        hub.answer("GET", "/users", (200, "application/json", json.dumps({"items": []}).encode(), {}))
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
        assert server.user in hub.users
        assert server.server_id in await launcher.seats.members()


async def test_a_hub_with_small_pages_is_listed_to_its_end(valkey: Valkey, redis: object, hub: FakeHub) -> None:
    hub.page_max = 2
    async with open_launcher(valkey, hub, **ARMED) as launcher:
        servers = [await _ready(launcher, f"paged-{number}") for number in range(5)]
        hub.calls.clear()
        await _reap(launcher)
        assert hub.calls == ["GET /hub/api/users"] * 6
        assert len(hub.users) == len(servers)


@pytest.mark.parametrize(("armed", "users"), [(True, 0), (False, 1)])
async def test_a_server_that_ended_is_gone_and_its_user_is_deleted_by_an_armed_reaper(
    valkey: Valkey, redis: object, hub: FakeHub, armed: bool, users: int
) -> None:
    async with open_launcher(valkey, hub, **(ARMED if armed else {})) as launcher:
        server = await _ready(launcher, "ended")
        hub.users[server.user]["servers"].clear()
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.GONE
        assert await launcher.seats.members() == {}
        assert len(hub.users) == users


async def test_a_hub_that_is_away_while_it_is_asked_by_name_loses_nobody(
    valkey: Valkey, redis: object, hub: FakeHub
) -> None:
    async with open_launcher(valkey, hub, **ARMED) as launcher:
        server = await _ready(launcher, "away")
        hub.users[server.user]["servers"].clear()
        hub.answer("GET", f"/users/{server.user}", (503, "application/json", b"{}", {}))
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
