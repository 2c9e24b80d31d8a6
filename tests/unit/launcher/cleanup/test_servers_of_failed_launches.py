"""A server whose launch ended without it is removed even if it is ready; a server that a user has stays."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.common.context import ProcessContext
from services.common.models import LaunchState, Server, ServerState
from services.common.records.cancel_requests import CancelRequests
from services.common.redis.keys import Kind, Topic
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.routes import router
from services.launcher.servers import server_topic
from tests.support.in_process_launcher import REPO, FakeHub, Launcher, StartLauncher, begins
from tests.support.polling import until
from tests.support.valkey import Valkey, another_context


async def _delete(launcher: Launcher, path: str, **params: str) -> None:
    app = FastAPI()
    app.state.context = launcher.parts
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://launcher") as client:
        assert (await client.delete(path, params=params)).status_code == 202


async def _delete_of_launch(launcher: Launcher, server: Server, **params: str) -> None:
    await _delete(launcher, "/servers", launch_ref=server.launch_ref, repo_url=REPO.repo_url, **params)


async def _until_removed(launcher: Launcher, server: Server) -> None:
    """Wait until a server is gone from everywhere."""
    async with asyncio.timeout(60):
        while server.user in launcher.hub.users or server.server_id in await launcher.seats.holders():
            await sleep_unless_cancelled(0.01)
    outcome = await launcher.outcome(server)
    assert outcome.state is ServerState.FAILED
    assert outcome.error
    assert outcome.error.code == "cancelled"


async def test_a_ready_server_of_a_launch_that_ended_without_it_is_removed(start_launcher: StartLauncher) -> None:
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        assert server.state is ServerState.READY
        await _delete_of_launch(launcher, server, even_ready="true")
        await _until_removed(launcher, server)
        await _delete_of_launch(launcher, server, even_ready="true")  # once more, as after a lost reply
        assert (await launcher.outcome(server)).state is ServerState.FAILED


async def test_a_ready_server_is_its_users_and_stays(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        await _delete_of_launch(launcher, server)
        await _delete(launcher, f"/servers/{server.server_id}")
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert server.user in hub.users
        assert server.server_id in await launcher.seats.holders()


async def test_a_start_that_does_not_heed_in_time_is_removed_once_it_is_ready(
    start_launcher: StartLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_launcher() as launcher:

        async def unheard(_name: str) -> bool:
            return True

        monkeypatch.setattr(launcher.servers.cancel_requests, "request", unheard)
        server = await launcher.request_server()
        await _delete_of_launch(launcher, server, even_ready="true")
        await _until_removed(launcher, server)


async def test_another_launcher_removes_what_one_that_died_had_begun_to(
    start_launcher: StartLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        member = launcher.member

        def dies(_topic: Topic, work: Awaitable[None]) -> None:
            coroutine: Any = work
            coroutine.close()

        with monkeypatch.context() as patch:
            patch.setattr(member, "work", dies)
            await _delete_of_launch(launcher, server, even_ready="true")
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
    async with start_launcher() as launcher:
        await _until_removed(launcher, server)


@pytest.mark.parametrize("is_ready", [False, True])
async def test_a_former_owner_of_the_launch_can_not_stop_the_server_that_the_next_one_goes_on_with(
    start_launcher: StartLauncher, hub: FakeHub, is_ready: bool
) -> None:
    if not is_ready:
        hub.answer("GET", "/progress", begins(b""))
    async with start_launcher() as launcher:
        server = await launcher.request_server("bad", launch_id="bad")
        if is_ready:
            await launcher.outcome(server)
        await _launch_is(launcher.context, "bad", LaunchState.LAUNCHING, epoch=2)
        before = await launcher.servers.read(server.server_id)
        await _delete_of_launch(launcher, server, even_ready="true", launch_epoch="1")
        stored = await launcher.context.records.read(server_topic(server.server_id))
        assert stored
        assert (stored.get("cancel"), stored.get("given_up")) == ("", "")
        if is_ready:
            assert await launcher.servers.read(server.server_id) == before
            assert server.user in hub.users

        await _delete_of_launch(launcher, server, even_ready="true", launch_epoch="2")
        await _until_removed(launcher, server)


async def test_what_a_former_owner_of_the_launch_had_given_up_stays_if_the_next_one_went_on(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    """The launcher that was to remove it died, and the launch was taken over meanwhile."""
    async with start_launcher(**ARMED) as launcher:
        server = await launcher.outcome(await launcher.request_server("bad", launch_id="bad"))
        await _launch_is(launcher.context, "bad", LaunchState.LAUNCHING, epoch=2)
        topic = server_topic(server.server_id)
        await launcher.context.records.set_field(topic, "given_up", "epoch 1")
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
        assert server.user in hub.users
        await launcher.context.records.set_field(topic, "given_up", "epoch 2")
        await _reap(launcher)
        await _until_removed(launcher, server)


async def test_a_launch_without_a_server_has_nothing_to_remove(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher() as launcher:
        await _delete(launcher, "/servers", launch_ref="none", repo_url=REPO.repo_url, even_ready="true")
        assert not hub.calls


# A cancel that reached no launcher

ARMED = {"reap_disarmed_seconds": -1.0}


async def _launch_is(context: ProcessContext, launch_id: str, state: LaunchState, *, epoch: int = 1) -> None:
    """What a gateway has written of a launch."""
    key = context.keys.record(Topic(Kind.LAUNCH, launch_id))
    await context.redis.hset(key, mapping={"state": state, "epoch": epoch})


async def _reap(launcher: Launcher) -> None:
    await launcher.reaper.reap()  # the first one finds Redis empty, and says since when it is known
    await launcher.reaper.reap()


@pytest.mark.parametrize("state", [LaunchState.FAILED, LaunchState.CANCELLED])
async def test_a_ready_server_whose_launch_ended_badly_by_its_record_is_removed(
    start_launcher: StartLauncher, state: LaunchState
) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await launcher.outcome(await launcher.request_server("bad", launch_id="bad"))
        await _launch_is(launcher.context, "bad", state)
        await _reap(launcher)
        await _until_removed(launcher, server)


async def test_servers_of_other_launches_stay(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher(**ARMED) as launcher:
        for name, state in (("good", LaunchState.READY), ("still", LaunchState.LAUNCHING), ("lost", None)):
            await launcher.outcome(await launcher.request_server(name, launch_id=name))
            if state:
                await _launch_is(launcher.context, name, state)
        await launcher.outcome(await launcher.request_server("unnamed"))
        await _reap(launcher)
        assert len(hub.users) == len(await launcher.seats.holders()) == 4


async def test_a_disarmed_reaper_leaves_what_is_ready(start_launcher: StartLauncher) -> None:
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server("bad", launch_id="bad"))
        await _launch_is(launcher.context, "bad", LaunchState.FAILED)
        await _reap(launcher)
        assert (await launcher.outcome(server)).state is ServerState.READY


async def test_a_start_whose_launch_ended_badly_is_given_up(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("GET", "/progress", begins(b""))
    async with start_launcher(**ARMED) as launcher:
        server = await launcher.request_server("bad", launch_id="bad")
        await _launch_is(launcher.context, "bad", LaunchState.CANCELLED)
        await _reap(launcher)
        await _until_removed(launcher, server)


@pytest.mark.parametrize("by_record", [True, False])
@pytest.mark.slow
async def test_a_start_that_was_given_up_while_no_launcher_was_there_is_ended_by_the_next_one(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub, by_record: bool
) -> None:
    hub.answer("GET", "/progress", begins(b""))
    async with start_launcher() as launcher:
        server = await launcher.request_server("bad", launch_id="bad")
        await until(lambda: hub.users)
    async with another_context(valkey, installation_id="test") as context:
        if by_record:
            await _launch_is(context, "bad", LaunchState.CANCELLED)
        else:
            cancel_requests = CancelRequests(context.records, Kind.SERVER, context.keys.wake("launcher"))
            assert await cancel_requests.request_even_if_ready(server.server_id, "bad", 1)
    async with start_launcher() as launcher:
        await _until_removed(launcher, server)
