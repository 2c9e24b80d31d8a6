"""An emptied Redis: no launch gets a seat before the running servers are counted."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.common.models import ServerState
from services.common.service.tasks import sleep_unless_cancelled
from tests.support.in_process_launcher import FakeHub, Launcher, StartLauncher
from tests.support.polling import until

JSON = "application/json"


async def _full(launcher: Launcher) -> None:
    for name in ("first", "second"):
        assert (await launcher.outcome(await launcher.request_server(name))).state is ServerState.READY


@pytest.mark.slow
async def test_launches_right_after_an_emptied_redis_wait_while_all_seats_are_taken(
    start_launcher: StartLauncher, redis: Redis, hub: FakeHub
) -> None:
    async with start_launcher(seats_total=2) as launcher:
        await _full(launcher)
        await redis.flushall()
        waiting = [await launcher.request_server(f"after-{number}") for number in range(3)]
        await launcher.until_counted()
        for server in waiting:
            await launcher.until_message(server, "All seats are taken")
        assert len(hub.users) == 2
        assert len(await launcher.seats.holders()) == 2


@pytest.mark.slow
async def test_a_launch_that_waits_while_the_hub_is_unavailable_is_told_why(
    start_launcher: StartLauncher, redis: Redis, hub: FakeHub
) -> None:
    async with start_launcher(seats_total=2) as launcher:
        await _full(launcher)
        hub.answer("GET", "/hub/api/users", (503, JSON, b"{}", {}))
        await redis.flushall()
        server = await launcher.request_server("after")
        assert server.queue
        assert server.queue.reason.startswith("It is not known yet how many servers run.")
        await launcher.until_message(server, "JupyterHub can't say: it answered 503")
        hub.scripted_answers.clear()
        hub.users.popitem()
        assert (await launcher.outcome(server)).state is ServerState.READY


async def test_a_launch_that_waits_for_a_hub_which_refuses_the_token_fails_at_once(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/hub/api/users", (403, JSON, b'{"message": "Missing or invalid credentials."}', {}))
    async with start_launcher(counts=False, seats_total=2) as launcher:
        outcome = await launcher.outcome(await launcher.request_server())
        assert outcome.error
        assert outcome.error.code == "hub_token_refused"
        hub.scripted_answers.clear()
        await launcher.until_counted()
        assert (await launcher.outcome(await launcher.request_server("second"))).state is ServerState.READY


async def test_a_launch_that_waits_for_a_hub_whose_proxy_does_not_know_it_yet_goes_on_waiting(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/hub/api/users", (404, "text/html", b"<h1>404</h1>", {}))
    async with start_launcher(counts=False, seats_total=2) as launcher:
        server = await launcher.request_server()
        await launcher.until_message(server, "JupyterHub can't say: JupyterHub refused: it answered 404")
        hub.scripted_answers.clear()
        assert (await launcher.outcome(server)).state is ServerState.READY


async def test_a_launch_of_a_fresh_installation_has_its_seat_as_soon_as_the_hub_was_listed(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(counts=False, seats_total=2, reap_interval_seconds=3600) as launcher:
        assert (await launcher.outcome(await launcher.request_server())).state is ServerState.READY
        assert hub.calls.count("GET /hub/api/users") == 1


@pytest.mark.slow
async def test_starts_of_another_launcher_are_counted_although_the_hub_does_not_list_them_yet(
    start_launcher: StartLauncher, redis: Redis, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", (429, JSON, b"{}", {}))
    async with (
        start_launcher(seats_total=1) as first,
        start_launcher(seats_total=1) as other,
    ):
        under_way = await first.request_server("under way")
        await until(lambda: hub.users)
        await redis.flushall()
        late = await other.request_server("late")
        async with asyncio.timeout(60):
            while "All seats are taken" not in await other.messages(late):
                assert late.server_id not in await other.seats.holders()
                await sleep_unless_cancelled(0.01)
        assert list(await other.seats.holders()) == [under_way.server_id]


async def test_a_launch_that_waited_for_a_count_in_vain_is_not_told_of_a_quota(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/hub/api/users", (503, JSON, b"{}", {}))
    async with start_launcher(counts=False, seats_total=2, seat_wait_seconds=0.5) as launcher:
        await until(lambda: launcher.seats.count_error, "the hub has been asked")
        outcome = await launcher.outcome(await launcher.request_server())
    assert outcome.error
    assert outcome.error.code == "hub_unavailable"
    assert "JupyterHub can't say: it answered 503" in outcome.error.detail
