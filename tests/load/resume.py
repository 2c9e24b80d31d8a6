"""After a kill -9 in mid-build: how long nothing comes, and whether a line is lost or comes twice."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from pathlib import Path

import redis.asyncio as redis

from tests.load.client import Place
from tests.load.stack import LoadStack
from tests.load.table import Row
from tests.load.watched_build import LINE, WAITING, WatchedBuild
from tests.support.forge import Forge

_LINES = 300
_KILL_AT = 100
_OWNER_PID = re.compile(r"-(\d+)-[0-9a-f]+$")


@dataclass
class Following:
    """A client that keeps the id of the last event, as EventSource does, and goes to the next gateway when cut off."""

    places: list[Place]
    path: str
    _: KW_ONLY
    lines: list[tuple[int, float]] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    phase: str = ""
    connections: int = 0
    _id: str = ""

    async def run(self) -> None:
        """Follow until the launch has ended."""
        while not self.phase:
            place = self.places[self.connections % len(self.places)]
            self.connections += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._once(place)
            if not self.phase:
                await asyncio.sleep(0.05)

    async def _once(self, place: Place) -> None:
        headers = {"Last_Event_ID": self._id} if self._id else {}
        reader, writer = await asyncio.open_connection(place.host, place.port)
        try:
            writer.write(place.request("GET", self.path, Accept="text/event-stream", **headers))
            event_id = ""
            data = b""
            while (line := await reader.readline()).endswith(b"\n") and not self.phase:
                if line.startswith(b"id: "):
                    event_id = line[4:].decode().strip()
                elif line.startswith(b"data: "):
                    data = line
                elif line == b"\n" and event_id:
                    self._id = event_id
                    self._event(data)
                    event_id = ""
                    data = b""
        finally:
            writer.close()

    def _event(self, data: bytes) -> None:
        if WAITING in data:
            self.waiting.set()
        if match := LINE.search(data):
            self.lines.append((int(match[1]), time.time()))
        for phase in ("ready", "failed", "cancelled"):
            if f'"phase": "{phase}"'.encode() in data:
                self.phase = phase

    def dark_seconds(self) -> float:
        """Return the longest time between two lines."""
        times = [at for _, at in self.lines]
        return max((later - sooner for sooner, later in pairwise(times)), default=0.0)

    def row(self, measure: str, goal: str) -> Row:
        numbers = [number for number, _ in self.lines]
        missing = _LINES - len(set(numbers))
        twice = len(numbers) - len(set(numbers))
        text = f"dark {self.dark_seconds():.1f} s, {missing} of {_LINES} lost, {twice} twice"
        note = f"the launch ended {self.phase}"
        figures = {"dark_seconds": self.dark_seconds(), "lost": float(missing), "twice": float(twice)}
        return Row(measure, text, goal=goal, note=note, numbers=figures, failed=int(self.phase != "ready"))


async def measure(folder: Path) -> list[Row]:
    """Kill a gateway, then a worker; there are two of each."""
    stack = LoadStack(folder, gateways=2, workers=2)
    try:
        await stack.start()
        with Forge(folder / "repos") as forge:
            first = await _measure_kill(stack, forge, "gateway", lambda: asyncio.sleep(0, "gateway"))
            second = await _measure_kill(stack, forge, "worker", lambda: _supervising(stack), places=stack.gateways[1:])
        return [
            Row("Kill -9 in mid-build", ""),
            first.row("the gateway, one of two", "dark <= 2 s, none lost"),
            second.row("the worker, one of two", "dark <= 8 s, none lost"),
        ]
    finally:
        await stack.stop()


async def _measure_kill(
    stack: LoadStack,
    forge: Forge,
    name: str,
    victim: Callable[[], Awaitable[str]],
    places: list[Place] | None = None,
) -> Following:
    build = await asyncio.to_thread(WatchedBuild.make, forge, f"killed-{name}", stack.folder / "go", _LINES)
    following = Following(places or stack.gateways, build.path)
    async with asyncio.timeout(120):
        task = asyncio.create_task(following.run())
        await following.waiting.wait()
        build.go()
        while len(following.lines) < _KILL_AT:
            await asyncio.sleep(0.01)
        stack.kill(await victim())
        await task
    return following


async def _supervising(stack: LoadStack) -> str:
    """Return the name of the worker that supervises the build that runs."""
    async with redis.Redis.from_url(stack.redis_url) as client:
        keys = [key async for key in client.scan_iter("*{b:*}:record")]
        owners = [(await client.hget(key, "owner") or b"").decode() for key in keys]
    pids = {int(match[1]) for owner in owners if (match := _OWNER_PID.search(owner))}
    return next(n for n, p in stack.processes.items() if n.startswith("worker") and p.pid in pids)
