"""Starts at a hub that is busy, forgets, or says at once that a start failed; and their deadlines."""

import asyncio
import json
import time

import pytest

from services.common.models import Server, ServerRequest, ServerState
from services.launcher.servers import server_topic
from services.launcher.start import relay
from services.launcher.start import start as starting
from tests.support.in_process_launcher import AS_ALWAYS, REPO, FakeHub, Launcher, StartLauncher
from tests.support.polling import until
from tests.support.valkey import Valkey, another_context

JSON = "application/json"
EXIT_MESSAGE = "The server ended with exit status 1 before it answered. The last lines of its log:\nthis is why"


def _says(status: int, message: str, **headers: str) -> tuple[int, str, bytes, dict[str, str]]:
    return status, JSON, json.dumps({"status": status, "message": message}).encode(), headers


def _progress(*events: dict[str, object]) -> tuple[int, str, bytes, dict[str, str]]:
    """A progress stream."""
    return 200, "text/event-stream", b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events), {}


def _posts(hub: FakeHub) -> int:
    return sum(call.startswith("POST") and "/servers/" in call for call in hub.calls)


async def _code(launcher: Launcher, server: Server) -> str:
    outcome = await launcher.outcome(server)
    assert outcome.state is ServerState.FAILED
    assert outcome.error
    return outcome.error.code


async def test_a_start_that_fails_at_once_is_the_authors_and_is_not_tried_again(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", _says(500, EXIT_MESSAGE))
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        assert await _code(launcher, server) == "server_start_failed"
        assert "this is why" in await launcher.messages(server)
        assert _posts(hub) == 1


async def test_a_start_waits_longer_for_a_busy_hub_than_for_an_unavailable_one(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    busy = _says(429, "Too many users trying to log in right now.", **{"Retry-After": "30"})
    hub.answer("POST", "/servers/", *[busy] * 8, AS_ALWAYS)
    async with start_launcher(hub_patience_seconds=0.1, hub_busy_pause_max_seconds=0.05) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert (await launcher.messages(server)).count("Too many users") == 1
        assert _posts(hub) == 9


@pytest.mark.slow
async def test_a_hub_that_is_busy_is_asked_again_when_it_says(start_launcher: StartLauncher, hub: FakeHub) -> None:
    busy = _says(429, "Too many users trying to log in right now.", **{"Retry-After": "1"})
    hub.answer("POST", "/servers/", busy, AS_ALWAYS)
    async with start_launcher(hub_busy_pause_max_seconds=30) as launcher:
        began = time.monotonic()
        assert (await launcher.outcome(await launcher.request_server())).state is ServerState.READY
        assert time.monotonic() - began >= 0.7  # less a part by chance, so that not all come back at once


@pytest.mark.slow
async def test_a_hub_that_stays_busy_ends_the_start_at_its_deadline(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    hub.answer("POST", "/servers/", _says(429, "Too many users"))
    async with start_launcher(server_start_timeout_seconds=0.5) as launcher:
        assert await _code(launcher, await launcher.request_server()) == "hub_busy"


@pytest.mark.slow
async def test_a_hub_that_forgets_each_start_is_not_asked_without_a_pause(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    hub.answer("POST", "/servers/", (202, JSON, b"", {}))
    hub.answer("GET", "/progress", _says(400, "not starting"))
    async with start_launcher(server_start_timeout_seconds=2.7, retry_pause_seconds=0.3) as launcher:
        assert await _code(launcher, await launcher.request_server()) == "hub_unavailable"
        assert _posts(hub) == 4  # at 0, 0.3, 0.9 and 2.1 s


async def test_all_calls_of_a_start_share_one_budget_of_retries(start_launcher: StartLauncher, hub: FakeHub) -> None:
    away = _says(503, "away")
    hub.answer("POST", "/servers/", away, away, AS_ALWAYS)
    hub.answer("GET", "/progress", away, away, away, AS_ALWAYS)
    async with start_launcher(hub_retries_max=5) as launcher:
        assert (await launcher.outcome(await launcher.request_server("enough"))).state is ServerState.READY
    hub.answer("POST", "/servers/", away, away, AS_ALWAYS)
    hub.answer("GET", "/progress", away, away, away, AS_ALWAYS)
    async with start_launcher(hub_retries_max=4) as launcher:
        server = await launcher.request_server("one too few")
        assert await _code(launcher, server) == "hub_unavailable"
        messages = await launcher.messages(server)
        assert messages.count("could not start the server yet (it answered 503: away)") == 1
        assert "could not follow the start: it answered 503: away" in messages


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_says(403, "Missing or invalid credentials."), "hub_token_refused"),
        (_says(403, "Action is not authorized with current scopes; requires any of [servers]"), "hub_token_refused"),
        (_says(403, "Nobody starts servers on Sundays."), "hub_refused"),
        (_says(401, "Unauthorized"), "hub_token_refused"),
        (_says(400, "Bad Request"), "hub_refused"),
    ],
)
async def test_a_refused_request_to_the_hub_is_not_repeated(
    start_launcher: StartLauncher, hub: FakeHub, answer: tuple[int, str, bytes, dict[str, str]], code: str
) -> None:
    hub.answer("POST", "/servers/", answer)
    async with start_launcher() as launcher:
        assert await _code(launcher, await launcher.request_server(code)) == code
        assert _posts(hub) == 1


async def test_a_user_that_was_deleted_meanwhile_is_created_again(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("POST", "/servers/", _says(404, "No such user"), AS_ALWAYS)
    async with start_launcher() as launcher:
        server = await launcher.outcome(await launcher.request_server())
        assert server.state is ServerState.READY
        assert hub.calls.count(f"POST /hub/api/users/{server.user}") == 2


async def test_a_500_that_says_nothing_is_explained_by_the_progress(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", _says(500, "Internal Server Error"))
    hub.answer("GET", "/progress", _progress({"failed": True, "message": "Spawn failed: exceeded quota: full"}))
    async with start_launcher() as launcher:
        assert await _code(launcher, await launcher.request_server()) == "server_quota_exceeded"
        assert _posts(hub) == 1


@pytest.mark.slow
async def test_a_pull_that_goes_on_has_time_of_its_own(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    hub.answer("POST", "/servers/", (202, JSON, b"", {}))
    starting_still = {"name": "x", "servers": {"": {"ready": False, "pending": "spawn"}}}
    pulling = _progress({"message": 'x [Normal] Pulling image "a:1"'})
    nothing = _progress()
    brief = {"server_start_timeout_seconds": 0.9, "retry_pause_seconds": 0.6}
    for first, most, code in (
        (pulling, 60, None),
        (nothing, 60, "server_start_timeout"),
        (pulling, 1.2, "image_pull_timeout"),
    ):
        async with start_launcher(server_start_max_seconds=most, **brief) as launcher:
            hub.scripted_answers.pop(("GET", ""), None)
            hub.answer("GET", "/progress", first, nothing, nothing, AS_ALWAYS)  # ready after 4.2 s
            hub.answer("GET", "", (200, JSON, json.dumps(starting_still).encode(), {}))
            outcome = await launcher.outcome(await launcher.request_server(f"{code} within {most}"))
            assert (outcome.error.code if outcome.error else None) == code


@pytest.mark.parametrize(
    ("messages", "untold_seconds", "code"),
    [
        (["Server requested", "Spawning server..."], 60, None),
        (["Server requested", "Spawning server..."], 1.2, "server_start_timeout"),
        (
            ["Server requested", "x [Warning] 0/3 nodes are available: 3 Insufficient memory."],
            60,
            "server_unschedulable",
        ),
    ],
)
@pytest.mark.slow
async def test_a_spawner_that_tells_nothing_of_its_steps_has_as_long_as_binderhub_gives_it(
    start_launcher: StartLauncher,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    messages: list[str],
    untold_seconds: float,
    code: str | None,
) -> None:
    monkeypatch.setattr(starting, "SPAWNER_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.0)
    monkeypatch.setattr(relay, "SPAWNER_FIRST_SECONDS", 0.0)
    hub.answer("POST", "/servers/", (202, JSON, b"", {}))
    starting_still = {"name": "x", "servers": {"": {"ready": False, "pending": "spawn"}}}
    events: list[dict[str, object]] = [{"message": message} for message in messages]
    brief = {"server_start_timeout_seconds": 0.9, "retry_pause_seconds": 0.6}
    async with start_launcher(server_start_untold_seconds=untold_seconds, **brief) as launcher:
        hub.answer("GET", "/progress", *[_progress(*events)] * 3, AS_ALWAYS)  # ready after 4.2 s
        hub.answer("GET", "", (200, JSON, json.dumps(starting_still).encode(), {}))
        outcome = await launcher.outcome(await launcher.request_server())
        assert (outcome.error.code if outcome.error else None) == code


async def test_an_image_that_is_not_there_ends_the_start_at_once(start_launcher: StartLauncher, hub: FakeHub) -> None:
    pull_message = 'x [Warning] Failed to pull image "a:1": rpc error: code = NotFound desc = a:1: not found'
    hub.answer("GET", "/progress", _progress({"message": pull_message}, {"message": "Server ready", "ready": True}))
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        assert await _code(launcher, server) == "image_pull_failed"
        assert pull_message in await launcher.messages(server)
        assert hub.users == {}


async def test_a_launch_that_is_told_of_no_seat_does_not_wait(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher(seats_total=0) as launcher:
        assert await _code(launcher, await launcher.request_server()) == "quota_exceeded"
        assert hub.calls == []  # nothing was begun, so there is nothing to remove
        assert await launcher.seats.waiting_server_ids() == []


async def test_a_waiting_launch_whose_redis_is_emptied_asks_for_its_seat_again(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(seats_total=1) as launcher:
        first = await launcher.outcome(await launcher.request_server("first"))
        waiting = await launcher.request_server("second")
        hub.users.pop(first.user)
        await launcher.context.redis.flushall()
        assert (await launcher.outcome(waiting)).state is ServerState.READY


@pytest.mark.slow
async def test_starts_beyond_the_hubs_limit_wait_for_their_turn(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("POST", "/servers/", _says(429, "Too many users"))
    async with start_launcher(hub_concurrent_spawns=1, hub_busy_pause_max_seconds=0.05) as launcher:
        first = await launcher.request_server("first")
        second = await launcher.request_server("second")
        await launcher.until_message(second, "waits for its turn")
        assert {call.split("/")[4] for call in hub.calls} == {first.user}
        hub.answer("POST", "/servers/", AS_ALWAYS)
        for server in (first, second):
            assert (await launcher.outcome(server)).state is ServerState.READY


async def test_a_repository_gets_the_resources_of_its_class(start_launcher: StartLauncher, hub: FakeHub) -> None:
    classes = {"small": {"memory_limit": "1G"}}
    async with start_launcher(resource_classes=classes, resource_class="small") as launcher:
        server = await launcher.outcome(await launcher.request_server())
        options = hub.users[server.user]["servers"][""]["user_options"]
        assert options["bindery_resource_class"] == "small"
        assert options["bindery_resources"] == {"memory_limit": 2**30}


async def test_a_server_that_may_still_run_keeps_its_seat_until_the_hub_says_that_it_does_not(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    away = _says(503, "away")
    hub.answer("GET", "/progress", away)
    hub.answer("DELETE", "", away)
    async with start_launcher(hub_retries_max=1, seats_total=1, reap_disarmed_seconds=-1.0) as launcher:
        server = await launcher.request_server()
        assert await _code(launcher, server) == "hub_unavailable"
        assert list(await launcher.seats.holders()) == [server.server_id]
        hub.scripted_answers.clear()
        for _ in range(2):
            await launcher.reaper.reap()
        assert await launcher.seats.holders() == {}
        assert hub.users == {}


async def test_the_limits_of_a_server_are_told(start_launcher: StartLauncher) -> None:
    async with start_launcher(idle_timeout_seconds=300, max_age_seconds=3600) as launcher:
        server = await launcher.outcome(await launcher.request_server("limited"))
        assert server.idle_timeout_seconds == 300
        assert server.expires == pytest.approx(time.time() + 3600, abs=60)
    async with start_launcher(idle_timeout_seconds=0, max_age_seconds=0) as launcher:
        server = await launcher.outcome(await launcher.request_server("unlimited"))
        assert (server.idle_timeout_seconds, server.expires) == (None, None)


@pytest.mark.slow
async def test_a_seat_that_is_given_back_is_taken_at_once_and_not_asked_for_meanwhile(
    start_launcher: StartLauncher,
) -> None:
    async with start_launcher(seats_total=1, reread_seconds=60) as launcher:
        first = await launcher.outcome(await launcher.request_server("first"))
        waiting = [await launcher.request_server(name) for name in ("second", "third")]
        assert [server.queue and server.queue.position for server in waiting] == [1, 2]
        await launcher.seats.release(first.server_id)
        assert (await launcher.outcome(waiting[0])).state is ServerState.READY
        await launcher.until_message(waiting[1], "you are number 1 in the queue")
        await launcher.seats.release(waiting[0].server_id)
        assert (await launcher.outcome(waiting[1])).state is ServerState.READY


async def test_the_wait_for_a_seat_is_over_by_itself(start_launcher: StartLauncher) -> None:
    async with start_launcher(seats_total=1, seat_wait_seconds=0.3, reread_seconds=60) as launcher:
        await launcher.outcome(await launcher.request_server("first"))
        assert await _code(launcher, await launcher.request_server()) == "quota_exceeded"


async def _orphan(valkey: Valkey, launcher: Launcher, server: Server, **times: float) -> Server:
    """Let the start lie in Redis as one does whose process died, begun at other times."""
    member = launcher.member

    async def has_two_messages() -> bool:  # "Launching server...", and what it waits for
        return (await launcher.messages(server)).count("\n") >= 2

    await until(has_two_messages)
    await member.hand_over()
    async with another_context(valkey, installation_id="test") as context:
        key = context.keys.record(server_topic(server.server_id))
        moved = server.updated(created_at=times["created_at"])
        await context.redis.hset(key, mapping={"body": moved.model_dump_json(exclude_none=True)})
        if "begun" in times:
            await context.redis.hset(key, "begun", repr(times["begun"]))
    return moved


async def test_an_adopted_start_waits_for_its_seat_from_when_it_was_asked_for(
    start_launcher: StartLauncher, valkey: Valkey
) -> None:
    async with start_launcher(seats_total=1) as launcher:
        await launcher.outcome(await launcher.request_server("first"))
        server = await launcher.request_server()
        await _orphan(valkey, launcher, server, created_at=time.time() - 700)
    async with start_launcher(seats_total=1) as launcher:
        await _taken_up(launcher, server)
        assert await _code(launcher, server) == "quota_exceeded"


@pytest.mark.parametrize("has_waited", [False, True])
async def test_an_adopted_start_has_the_deadline_that_it_had(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, has_waited: bool
) -> None:
    monkeypatch.setattr(starting, "ADOPTED_MIN_SECONDS", 0.2)
    hub.answer("POST", "/servers/", _says(429, "Too many users"))
    async with start_launcher() as launcher:
        server = await launcher.request_server()
        long_ago = time.time() - 400
        times = {"created_at": long_ago - 300, "begun": long_ago} if has_waited else {"created_at": long_ago}
        await _orphan(valkey, launcher, server, **times)
    async with start_launcher() as launcher:
        await _taken_up(launcher, server)
        assert await _code(launcher, server) == "hub_busy"


async def test_an_adopted_start_whose_resource_class_was_removed_fails_and_is_under_way_no_more(
    start_launcher: StartLauncher, valkey: Valkey, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", _says(429, "Too many users"))
    async with start_launcher(resource_classes={"big": {"cost": 1}}) as launcher:
        repo = REPO.updated(resource_class="big")
        server = await launcher.servers.start(ServerRequest(launch_ref="ref", repo=repo, image="image:a"))
        await _orphan(valkey, launcher, server, created_at=server.created_at)
    async with start_launcher() as launcher:
        await _taken_up(launcher, server)
        assert await _code(launcher, server) == "unknown_resource_class"
        assert server.server_id not in launcher.servers.cancel_requests


async def _taken_up(launcher: Launcher, server: Server) -> None:
    async with asyncio.timeout(60):
        while not launcher.member.owns(server_topic(server.server_id)):
            if (await launcher.servers.read(server.server_id)).state.is_final:
                return
            await asyncio.sleep(0.01)
