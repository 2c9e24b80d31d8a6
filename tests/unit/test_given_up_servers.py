"""A server whose launch ended without it is removed even if it is ready; one that a user was given stays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.common.keys import Topic
from services.common.models import Server, ServerState
from services.launcher.routes import router
from tests.support.launcher import REPO, FakeHub, Launcher, open_launcher, running_hub
from tests.support.valkey import Valkey


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with running_hub() as hub:
        yield hub


async def _delete(launcher: Launcher, path: str, **params: str) -> None:
    app = FastAPI()
    app.state.servers = launcher.servers
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://launcher") as client:
        assert (await client.delete(path, params=params)).status_code == 202


async def _delete_of_launch(launcher: Launcher, server: Server, **params: str) -> None:
    await _delete(launcher, "/servers", launch_ref=server.launch_ref, repo_url=REPO.repo_url, **params)


async def _until_removed(launcher: Launcher, server: Server) -> None:
    """Wait until a server is gone from everywhere."""
    async with asyncio.timeout(10):
        while server.user in launcher.hub.users or server.server_id in await launcher.seats.members():
            await asyncio.sleep(0.01)
    found = await launcher.ended(server)
    assert found.state is ServerState.FAILED
    assert found.error
    assert found.error.code == "cancelled"


async def test_a_ready_server_of_a_launch_that_ended_without_it_is_removed(
    valkey: Valkey, redis: object, hub: FakeHub
) -> None:
    async with open_launcher(valkey, hub) as launcher:
        server = await launcher.ended(await launcher.ask())
        assert server.state is ServerState.READY
        await _delete_of_launch(launcher, server, even_ready="true")
        await _until_removed(launcher, server)
        await _delete_of_launch(launcher, server, even_ready="true")  # once more, as after a lost reply
        assert (await launcher.ended(server)).state is ServerState.FAILED


async def test_a_ready_server_is_its_users_and_stays(valkey: Valkey, redis: object, hub: FakeHub) -> None:
    async with open_launcher(valkey, hub) as launcher:
        server = await launcher.ended(await launcher.ask())
        await _delete_of_launch(launcher, server)
        await _delete(launcher, f"/servers/{server.server_id}")
        assert (await launcher.ended(server)).state is ServerState.READY
        assert server.user in hub.users
        assert server.server_id in await launcher.seats.members()


async def test_a_start_that_does_not_heed_in_time_is_removed_once_it_is_ready(
    valkey: Valkey, redis: object, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_launcher(valkey, hub) as launcher:

        async def unheard(_name: str) -> bool:
            return True

        monkeypatch.setattr(launcher.servers.cancels, "ask", unheard)
        server = await launcher.ask()
        await _delete_of_launch(launcher, server, even_ready="true")
        await _until_removed(launcher, server)


async def test_another_launcher_removes_what_one_that_died_had_begun_to(
    valkey: Valkey, redis: object, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_launcher(valkey, hub) as launcher:
        server = await launcher.ended(await launcher.ask())
        member = launcher.servers.member
        assert member

        def dies(_topic: Topic, work: Awaitable[None]) -> None:
            coroutine: Any = work
            coroutine.close()

        with monkeypatch.context() as patch:
            patch.setattr(member, "work", dies)
            await _delete_of_launch(launcher, server, even_ready="true")
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
    async with open_launcher(valkey, hub) as launcher:
        await _until_removed(launcher, server)


async def test_a_launch_without_a_server_has_nothing_to_remove(valkey: Valkey, redis: object, hub: FakeHub) -> None:
    async with open_launcher(valkey, hub) as launcher:
        await _delete(launcher, "/servers", launch_ref="none", repo_url=REPO.repo_url, even_ready="true")
        assert not hub.calls
