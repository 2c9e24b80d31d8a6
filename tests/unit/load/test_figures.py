"""What the benchmark says of a launch, of the stub hub and of a build that many watch."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from tests.load import target_watch
from tests.load.client import Place, fetch, launch
from tests.load.stub_http import StubProtocol, Turn
from tests.load.stub_hub import StubHub
from tests.load.target_watch import LATE_AFTER, Follower

Write = Callable[[str, str], Awaitable[None]]


@contextlib.asynccontextmanager
async def facade(launches: Callable[[int, Write], Awaitable[None]]) -> AsyncIterator[Place]:
    """A façade whose streams `launches` writes: it gets their numbers, from 0."""
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(phase: str, message: str) -> None:
            event = {"phase": phase, "message": message, "url": "http://hub/user/ann-x1/", "token": "t"}
            for part in (f"data: {json.dumps(event)[:20]}", f"{json.dumps(event)[20:]}\n\n"):  # in two pieces
                writer.write(part.encode())
                await writer.drain()
                await asyncio.sleep(0)

        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await launches(next(numbers), write)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Place("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_a_launch_tells_whose_server_it_got() -> None:
    async def ready(_number: int, write: Write) -> None:
        await write("launching", "soon\n")
        await write("ready", "")

    async with facade(ready) as place:
        outcome = await launch(place, "/build/git/x")
    assert (outcome.phase, outcome.user) == ("ready", "ann-x1")


async def test_the_stub_hub_tells_how_long_it_worked_on_each_user_and_only_once() -> None:
    hub = StubHub()
    turn = Turn()
    server = await asyncio.get_running_loop().create_server(
        lambda: StubProtocol(hub.handle, hub.on_answer, turn), "127.0.0.1", 0
    )
    async with server:
        place = Place("127.0.0.1", server.sockets[0].getsockname()[1], prefix="/hub/api")
        await fetch(place, "POST", "/users/ann")
        await fetch(place, "POST", "/users/ann/servers/", {"image": "i"})
        _, reply = await fetch(place, "GET", "/own-seconds")
        _, again = await fetch(place, "GET", "/own-seconds")
    own = json.loads(reply)
    assert list(own) == ["ann"]
    assert own["ann"] > 0
    assert json.loads(again) == {}


async def test_requests_of_one_turn_wait_for_one_another() -> None:
    turn = Turn()
    started_at = turn.started_at()
    assert turn.started_at() == started_at
    await asyncio.sleep(0)
    assert turn.started_at() > started_at


@pytest.mark.parametrize("shows_late_comers_all", [True, False])
async def test_a_targets_build_is_watched_to_its_end_and_a_late_comers_loss_is_counted(
    shows_late_comers_all: bool,
) -> None:
    lines = 2 * LATE_AFTER
    is_late_there = asyncio.Event()

    async def build(number: int, write: Write) -> None:
        is_late = number == 3
        if is_late:
            is_late_there.set()
        for line in range(0 if shows_late_comers_all or not is_late else LATE_AFTER, lines):
            if line == LATE_AFTER and not is_late:
                await is_late_there.wait()
            await write("building", f"line {line}\n")
        await write("built", "")

    async with facade(build) as place, asyncio.timeout(30):
        rows = {row.measure: row for row in await target_watch.measure(place, "git/x", 3)}
    assert rows["3 followers: lines"].text == f"3 of 3 got all {lines} lines"
    missing = rows[f"one more after {LATE_AFTER} lines"].text
    assert missing == ("misses 0" if shows_late_comers_all else f"misses {LATE_AFTER}")


def test_a_follower_who_lost_lines_is_told_and_a_build_without_lines_is_no_measure() -> None:
    whole = Follower(["a", "b"], [1.0, 2.0], last_phase="built")
    later = Follower(["a", "b"], [1.5, 2.0], last_phase="built")
    broken = Follower(["b"], [2.0])
    lines, lag = target_watch.rows("git/x", [whole, later, broken], Follower())[1:3]
    assert (lines.text, lines.note) == ("2 of 3 got all 2 lines", "the build ended: broken, built")
    assert lag.numbers["p99_ms"] == 500
    (_, nothing) = target_watch.rows("git/x", [Follower(last_phase="launching")], Follower())
    assert nothing.text == "none"
