"""Two hundred launches at once on a real hub, against twenty seats: all are served, and never more run than may."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from services.common.models import Server, ServerState
from tests.support.hub_load import BriefHub, Clicks, LauncherProcess, clicks, running_brief_hub, running_launcher
from tests.support.polling import until
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")

LAUNCHES = 200
SEATS = 20
POPULAR = 160


async def _all(gateway: Clicks, during: object = None) -> list[Server]:
    """160 launches of one repository, and 40 of another one as soon as those are in the queue."""
    async with asyncio.TaskGroup() as group:
        popular = [group.create_task(gateway.launch(f"popular-{n}", "popular")) for n in range(POPULAR)]
        waiting = gateway.context.keys("{seats}:waiting")

        async def are_in() -> bool:
            return int(await gateway.context.redis.zcard(waiting)) >= POPULAR - 2 * SEATS

        await until(are_in, "the first are in the queue")
        others = [group.create_task(gateway.launch(f"other-{n}", "other")) for n in range(LAUNCHES - POPULAR)]
        if during:
            await during  # type: ignore[misc]
    return [task.result() for task in popular + others]


async def _check(gateway: Clicks, hub: BriefHub, servers: list[Server], *, slack: int) -> None:
    outcomes = Counter((server.state, server.error and server.error.detail) for server in servers)
    assert {state for state, _ in outcomes} <= {ServerState.READY, ServerState.GONE}, outcomes
    assert len({server.user for server in servers}) == LAUNCHES
    assert hub.peaks()["running"] <= SEATS
    # Until the last of the other repository is served, each seat that becomes free goes to one as well as to the other.
    served = sorted(servers, key=lambda server: server.ready_at or 0.0)
    last = max(at for at, server in enumerate(served) if server.repo_url.endswith("/other"))
    assert last <= SEATS + 2 * (LAUNCHES - POPULAR) + slack, f"the last of 40 was number {last}"

    async def is_empty() -> bool:
        return not await gateway.members() and not hub.users()

    await until(is_empty, "no seat, user or server is left")


@pytest.mark.parametrize("launchers", [1, 2])
async def test_two_hundred_launches_share_twenty_seats(valkey: Valkey, tmp_path: Path, launchers: int) -> None:
    with running_brief_hub(tmp_path / "hub") as hub:
        processes = [LauncherProcess(tmp_path, valkey, hub, seats_total=SEATS) for _ in range(launchers)]
        try:
            for launcher in processes:
                launcher.start()
            async with clicks(valkey, *processes) as gateway:
                await _check(gateway, hub, await _all(gateway), slack=SEATS)
                assert hub.peaks()["starts"] == LAUNCHES
        finally:
            for launcher in processes:
                launcher.kill()


async def test_a_launcher_that_is_killed_twice_loses_none_and_starts_none_too_many(
    valkey: Valkey, tmp_path: Path
) -> None:
    with (
        running_brief_hub(tmp_path / "hub") as hub,
        running_launcher(tmp_path, valkey, hub, seats_total=SEATS) as launcher,
    ):
        async with clicks(valkey, launcher) as gateway:

            async def kill_twice() -> None:
                for share in (40, 100):
                    await until(lambda share=share: hub.peaks()["starts"] >= share, "so many starts", seconds=90)
                    launcher.kill()
                    await asyncio.to_thread(launcher.start)

            await _check(gateway, hub, await _all(gateway, kill_twice()), slack=2 * SEATS)
