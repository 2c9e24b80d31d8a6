"""A real hub that goes away, comes back, is emptied around, or is shared: launches end as they should."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from services.common.models import ServerState
from tests.support.hub_load import BriefHub, clicks, running_brief_hub, running_launcher
from tests.support.polling import until
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")


@pytest.mark.parametrize("has_mixin", [True, False])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
async def test_a_hub_that_is_restarted_in_mid_launch_ends_in_a_server_that_is_ready(
    valkey: Valkey, tmp_path: Path, by: signal.Signals, has_mixin: bool
) -> None:
    with (
        running_brief_hub(tmp_path / "hub", has_mixin=has_mixin) as hub,
        running_launcher(tmp_path, valkey, hub) as launcher,
    ):
        async with clicks(valkey, launcher) as gateway, asyncio.TaskGroup() as group:
            launching = group.create_task(gateway.launch("restarted", kind="slow"))
            await until(hub.has_followed_start, "the server is starting")
            hub.kill(by)
            await asyncio.to_thread(hub.start)
            server = await launching
            assert server.state is ServerState.READY
            assert list(hub.users()) == [server.user]
            assert hub.users()[server.user][""]["ready"]


async def test_a_hub_that_stalls_during_a_launch_is_noticed(valkey: Valkey, tmp_path: Path) -> None:
    with (
        running_brief_hub(tmp_path / "hub") as hub,
        running_launcher(
            tmp_path, valkey, hub, hub_silence_seconds=2, hub_timeout_seconds=1, hub_patience_seconds=6
        ) as launcher,
    ):
        async with clicks(valkey, launcher) as gateway, asyncio.TaskGroup() as group:
            launching = group.create_task(gateway.launch("hangs", kind="slow"))
            await until(hub.has_followed_start, "the server is starting")
            with hub.stopped():
                server = await launching
            assert server.error
            assert server.error.code == "hub_unavailable"


async def test_a_start_waits_for_a_hub_whose_proxy_refuses_routes(valkey: Valkey, tmp_path: Path) -> None:
    with running_brief_hub(tmp_path / "hub") as hub, running_launcher(tmp_path, valkey, hub) as launcher:
        async with clicks(valkey, launcher) as gateway, asyncio.TaskGroup() as group:
            (hub.folder / "proxy-away").touch()
            launching = group.create_task(gateway.launch("unrouted", kind="lasting"))
            await until(lambda: "Failed to add" in hub.log.read_text(), "the proxy did not take it")
            (hub.folder / "proxy-away").unlink()
            server = await launching
            assert server.state is ServerState.READY
            assert hub.users()[server.user][""]["ready"]


async def test_a_hub_that_stays_away_is_unavailable_before_the_deadline(valkey: Valkey, tmp_path: Path) -> None:
    with (
        running_brief_hub(tmp_path / "hub") as hub,
        running_launcher(tmp_path, valkey, hub, hub_patience_seconds=4, server_start_timeout_seconds=20) as launcher,
    ):
        async with clicks(valkey, launcher) as gateway, asyncio.TaskGroup() as group:
            launching = group.create_task(gateway.launch("lost"))
            await until(lambda: any(server for server in hub.users().values()), "the server is starting")
            hub.kill()
            began = time.monotonic()
            server = await launching
            assert server.error
            assert server.error.code == "hub_unavailable"
            assert time.monotonic() - began < 20
            assert await gateway.members() == 1  # what may still run there keeps its seat
            await asyncio.to_thread(hub.start)

            async def is_clean() -> bool:
                return not await gateway.members() and not hub.users()

            await until(is_clean, "what was left there is removed when the hub is back")


async def test_a_token_that_the_hub_does_not_know_is_said_at_once(valkey: Valkey, tmp_path: Path) -> None:
    with (
        running_brief_hub(tmp_path / "hub") as hub,
        running_launcher(tmp_path, valkey, hub, hub_api_token="revoked") as launcher,
    ):
        async with clicks(valkey, launcher) as gateway:
            server = await gateway.launch("refused")
            assert server.error
            assert server.error.code == "hub_token_refused"


async def test_the_hub_reports_a_failed_start_in_the_spawners_words(valkey: Valkey, tmp_path: Path) -> None:
    with running_brief_hub(tmp_path / "hub") as hub, running_launcher(tmp_path, valkey, hub) as launcher:
        async with clicks(valkey, launcher) as gateway:
            server = await gateway.launch("failing", kind="failing")
            assert server.error
            assert server.error.code == "server_out_of_memory"
            await until(lambda: not hub.users(), "its user is removed")


@pytest.fixture
def hub(tmp_path: Path) -> object:
    with running_brief_hub(tmp_path / "hub") as hub:
        yield hub


async def test_an_emptied_redis_and_another_installation_cost_nobody_a_server(
    valkey: Valkey, tmp_path: Path, hub: BriefHub
) -> None:
    with (
        running_launcher(tmp_path, valkey, hub, installation_id="one", seats_total=4) as first,
        running_launcher(
            tmp_path, valkey, hub, installation_id="two", installation_secret="t" * 32, seats_total=4
        ) as second,
    ):
        async with clicks(valkey, first) as first_clicks, clicks(valkey, second) as second_clicks:
            everyone = [
                await gateway.launch(f"{name}-{number}", kind="lasting")
                for name, gateway in (("one", first_clicks), ("two", second_clicks))
                for number in range(3)
            ]
            before = hub.users()
            assert sorted(before) == sorted(server.user for server in everyone)
            await first_clicks.context.redis.flushall()

            async def have_compared_armed() -> bool:
                since = [
                    await gateway.context.redis.get(gateway.context.keys("installation"))
                    for gateway in (first_clicks, second_clicks)
                ]
                return all(at and time.time() - float(at) > 4 for at in since)

            await until(have_compared_armed, "both reapers may delete again, and have looked since")
            now = hub.users()
            assert {user: servers[""]["started"] for user, servers in now.items()} == {
                user: servers[""]["started"] for user, servers in before.items()
            }
            assert [await gateway.members() for gateway in (first_clicks, second_clicks)] == [3, 3]
            assert (await first_clicks.launch("one-more")).state is ServerState.READY


async def test_launchers_together_start_no_more_at_once_than_the_hub_takes(valkey: Valkey, tmp_path: Path) -> None:
    with (
        running_brief_hub(tmp_path / "hub", spawn_limit=7) as hub,
        running_launcher(tmp_path, valkey, hub, hub_concurrent_spawns=6) as first,
        running_launcher(tmp_path, valkey, hub, hub_concurrent_spawns=6) as second,
    ):
        async with clicks(valkey, first, second) as gateway:
            servers = await asyncio.gather(*(gateway.launch(f"spawn-{number}") for number in range(24)))
            assert {server.error for server in servers} == {None}
            assert hub.peaks()["starting"] <= 6
            assert "throttling" not in hub.log.read_text()
