"""The process that follows: thousands of connections, and of each no more than the bytes and when they came.

    python -m tests.load.watch PORT PATH FOLLOWERS LINES LATE_AFTER

Prints `joined` when every follower has seen the build wait, and at the end one line of JSON.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

from tests.load.client import Place, percentile
from tests.load.watched_build import LINE, WAITING

_END = (b'"phase": "ready"', b'"phase": "failed"')
_AT_ONCE = 50
_JOIN_SECONDS = 120.0
_LINE_SECONDS = 60.0


class _Follower(asyncio.Protocol):
    def __init__(self, request: bytes, lines: int) -> None:
        self.request = request
        self.last = b"line %d at" % (lines - 1)
        self.chunks: list[tuple[float, bytes]] = []
        self.joined = asyncio.Event()
        self.complete = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.ready_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class does not say so
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.chunks.append((time.time(), data))
        if WAITING in data:
            self.joined.set()
        if self.last in data:
            self.complete.set()
        if any(end in data for end in _END):
            self.ready_at = time.time() if _END[0] in data else 0.0
            self.has_ended.set()
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        for event in (self.joined, self.complete, self.has_ended):
            event.set()

    def lines(self) -> list[tuple[int, float, float]]:
        """(number, printed at, received at) of each line that came."""
        return [
            (int(number), float(printed_at), at)
            for at, chunk in self.chunks
            for number, printed_at in LINE.findall(chunk)
        ]  # fmt: skip


async def _join(place: Place, path: str, lines: int) -> _Follower:
    request = place.request("GET", path, Accept="text/event-stream")
    loop = asyncio.get_running_loop()
    _, follower = await loop.create_connection(lambda: _Follower(request, lines), place.host, place.port)
    await follower.joined.wait()
    return follower


async def _join_all(place: Place, path: str, count: int, lines: int) -> list[_Follower]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def join() -> _Follower:
        async with gate:
            return await _join(place, path, lines)

    async with asyncio.timeout(_JOIN_SECONDS):
        return list(await asyncio.gather(*(join() for _ in range(count))))


async def follow(place: Place, path: str, count: int, lines: int, late_after: int) -> dict[str, Any]:
    """Follow one build with `count` clients, and one more that comes after `late_after` lines (0: none)."""
    started_at = time.time()
    followers = await _join_all(place, path, count, lines)
    join_seconds = time.time() - started_at
    print("joined", flush=True)
    late: _Follower | None = None
    if late_after:
        needle = b"line %d at" % late_after
        while not any(needle in chunk for _, chunk in followers[0].chunks) and not followers[0].complete.is_set():
            await asyncio.sleep(0.01)
        late = await _join(place, path, lines)
    everyone = [*followers, *([late] if late else [])]
    async with asyncio.timeout(lines / 20 + _LINE_SECONDS):
        await asyncio.gather(*(follower.complete.wait() for follower in everyone))
        await asyncio.gather(*(follower.has_ended.wait() for follower in everyone))
    return _summary(followers, late, lines) | {"join_seconds": join_seconds}


def _summary(followers: list[_Follower], late: _Follower | None, lines: int) -> dict[str, Any]:
    lags: list[float] = []
    whole = delivered = 0
    first = float("inf")
    last = 0.0
    for follower in followers:
        received = follower.lines()
        delivered += len(received)
        whole += [number for number, _, _ in received] == list(range(lines))
        lags += [at - printed_at for _, printed_at, at in received]
        first = min(first, received[0][1]) if received else first
        last = max(last, received[-1][2]) if received else last
    return {
        "whole": whole,
        "delivered": delivered,
        "per_second": delivered / max(0.001, last - first),
        "p50": percentile(lags, 0.5),
        "p99": percentile(lags, 0.99),
        "worst": max(lags, default=0.0),
        "ready": sum(follower.ready_at > 0 for follower in followers),
        "ready_seconds": max(follower.ready_at for follower in followers) - last,
        "late_missing": lines - len({number for number, _, _ in late.lines()}) if late else 0,
    }


def main() -> None:
    """Follow, and say what came."""
    port, path, count, lines, late_after = sys.argv[1:]
    place = Place("127.0.0.1", int(port))
    print(json.dumps(uvloop.run(follow(place, path, int(count), int(lines), int(late_after)))), flush=True)


if __name__ == "__main__":
    main()
