"""Seats: a set of servers by identity, with a queue in front of it. Taken is what is reserved, or listed as ours.

The order of the queue, and everything that is done to it, is one script: `scripts/seats.lua`.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import Gauge

from services.common.counting import counted_as
from services.common.errors import BinderyError
from services.common.logging import get_logger
from services.common.loops import pause
from services.common.models import Queue, ResolvedRepo, Server
from services.common.redis import AWAY, Scripts
from services.common.stage import Stage
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

TAKEN = Gauge("bindery_seats_taken", "Seats that are taken, in units of quota")
WAITING = Gauge("bindery_seats_waiting", "Launches that wait for a seat")

SEATED = 0
UNKNOWN = -1
NEVER = -2
FULL = -3
"""What the script answers besides places, which begin at 1."""


class Place(NamedTuple):
    """Where a launch stands: its place, or one of the above; and whether its repository's own quota keeps it out."""

    number: int
    is_kept_out: bool = False

    @property
    def queue(self) -> Queue | None:
        """What its followers are told; None where it has a seat, or can't have one."""
        if self.number <= 0:
            return None
        reason = "This repository has as many servers as it may." if self.is_kept_out else "All seats are taken."
        return Queue(reason=reason, position=self.number)


@dataclass
class Watched:
    """A launch that waits here. `place` is SEATED once it has a seat, and UNKNOWN where Redis has lost it."""

    place: Place
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def move(self, place: Place) -> None:
        if place != self.place:
            self.place = place
            self.changed.set()

    async def wait(self, seconds: float) -> None:
        """Until the place has changed, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        self.changed.clear()


class Seats:
    """Takes and gives back seats. Taking one twice is taking it once."""

    def __init__(self, stage: Stage, settings: LauncherSettings) -> None:
        self._stage, self._settings, self._classes = stage, settings, settings.classes
        self.scripts = Scripts(stage.redis, "services.launcher.scripts")
        self._keys = [stage.keys("{seats}:" + name) for name in ("members", "waiting", "asked", "held")]
        self._common = [settings.seats_total, settings.seats_waiting_max, stage.keys.wake("launcher")]
        self._watched: dict[str, Watched] = {}
        self._news = asyncio.Event()

    def _call(self, action: str, *args: Any) -> tuple[Scripts, str, list[str], list[Any]]:
        return self.scripts, "seats", self._keys, [action, *self._common, *args]

    async def _run(self, action: str, *args: Any) -> Any:
        _, name, keys, every = self._call(action, *args)
        return await self.scripts.run(name, keys, every)

    def _member(self, repo: ResolvedRepo) -> str:
        quota = self._settings.seats_per_repo if repo.quota is None else repo.quota
        return _member(repo.repo_url, quota, self._classes.cost(self._classes.name_for(repo)))

    # For a start

    def reservation(self, server: Server, repo: ResolvedRepo) -> tuple[Scripts, str, list[str], list[Any]]:
        """The script call that takes a seat or a place, to be run together with others. It answers as `take`."""
        return self._call("take", server.server_id, int(server.created_at * 1000), self._member(repo))

    @staticmethod
    def taken(answer: list[int]) -> Place:
        """What the answer to a reservation means."""
        return Place(int(answer[0]), bool(answer[1]))

    async def take(self, server: Server, repo: ResolvedRepo) -> Place:
        """Take a seat, or a place in the queue; NEVER or FULL where the server gets neither."""
        _, name, keys, args = self.reservation(server, repo)
        return self.taken(await self.scripts.run(name, keys, args))

    async def check(self, repo: ResolvedRepo) -> None:
        """Raise `BinderyError` where a launch of `repo` would get neither a seat nor a place now, or has no class."""
        refuse(int(await self._run("check", self._member(repo))))

    async def give_back(self, *server_ids: str) -> None:
        """Free the seats or the places in the queue."""
        if server_ids:
            await self._run("free", *server_ids)

    # For who waits

    @contextlib.contextmanager
    def watching(self, server_id: str, place: Place) -> Iterator[Watched]:
        """Keep the place of a launch up to date until the block ends."""
        watched = self._watched[server_id] = Watched(place)
        self._news.set()
        try:
            yield watched
        finally:
            if self._watched.get(server_id) is watched:
                del self._watched[server_id]

    def heard(self) -> None:
        """A seat has become free, or the queue has moved."""
        self._news.set()

    async def run(self) -> None:
        """Look where those stand that wait here, when that may have changed, by one call for all; until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.reread_seconds):
                    await self._news.wait()
            self._news.clear()
            try:
                if self._watched:
                    with counted_as("upkeep"):
                        await self._look()
            except AWAY as error:
                log.warning("redis_away", doing="seats", error=str(error))
            await pause(self._settings.seat_tick_seconds)

    async def _look(self) -> None:
        shown = dict(self._watched)
        answer = await self._run("look", *shown)
        for watched, number, is_kept_out in zip(shown.values(), answer[::2], answer[1::2], strict=True):
            watched.move(self.taken([number, is_kept_out]))

    # For the reaper

    async def members(self) -> dict[str, float]:
        """Every server that holds a seat, with the time at which it was reserved."""
        raw = await self._stage.redis.hgetall(self._keys[0])
        return {name.decode(): float(json.loads(kept).get("reserved_at", 0)) for name, kept in raw.items()}

    async def waiting(self) -> list[str]:
        """Every server that waits for a seat, by the time at which it asked."""
        return [name.decode() for name in await self._stage.redis.zrange(self._keys[1], 0, -1)]

    async def count(self, server_id: str, repo_url: str = "", resource_class: str = "") -> None:
        """Count a server that the hub lists as ours, although no reservation of it is known."""
        await self._run("count", server_id, _member(repo_url, -1, self._classes.cost(resource_class)))

    async def mend(self) -> None:
        """Reckon anew how many seats are taken, and tell the metrics."""
        if int(await self._run("mend")):
            log.warning("seats_were_miscounted")
        TAKEN.set(int(await self._stage.redis.hget(self._keys[3], "total") or 0))
        WAITING.set(await self._stage.redis.zcard(self._keys[1]))


def _member(repo_url: str, quota: int, cost: int) -> str:
    return json.dumps({"v": 1, "repo": repo_url, "cost": cost, "quota": quota, "reserved_at": time.time()})


def refuse(place: int) -> None:
    """Raise `BinderyError("quota_exceeded")` where the script gave neither a seat nor a place."""
    if place == NEVER:
        raise BinderyError("quota_exceeded", "No servers of this kind are started here at the moment.")
    if place == FULL:
        raise BinderyError("quota_exceeded", "Too many servers are running, and too many launches wait for a seat.")
