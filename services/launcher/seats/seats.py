"""Seats: a set of servers by identity, with a queue in front of it. Taken is what is reserved, or listed as ours.

The order of the queue, and everything that is done to it, is one script: `scripts/seats.lua`.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import Gauge

from services.common.context import ProcessContext
from services.common.git.repository_url import repository_of
from services.common.models import Queue, ResolvedRepo, Server
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.scripts import Scripts
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

TAKEN = Gauge("bindery_seats_taken", "Seats that are taken, in units of quota")
WAITING = Gauge("bindery_seats_waiting", "Launches that wait for a seat")

SEATED = 0
UNKNOWN = -1
NEVER = -2
FULL = -3
"""What the script answers besides places, which begin at 1."""

COUNTED_AT_ONCE = 200
"""Servers that are counted by one call of the script."""


TAKEN_ALL = "All seats are taken."
KEPT_OUT = "This repository has as many servers as it may."
UNCOUNTED = "It is not known yet how many servers run."


class Place(NamedTuple):
    """Where a launch stands: its place, or one of the above; and why it has no seat, where it has none."""

    number: int
    reason: str = ""

    @property
    def queue(self) -> Queue | None:
        """What its followers are told; None where it has a seat, or can't have one."""
        return Queue(reason=self.reason, position=self.number) if self.number > 0 else None


class Counted(NamedTuple):
    """A server that the hub lists as ours; what it counts for."""

    server_id: str
    repo: str = ""
    resource_class: str = ""
    user: str = ""


class Member(NamedTuple):
    """A server that holds a seat: since when, and by what name the hub would know it, where that is known."""

    reserved_at: float
    user: str


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

    def __init__(self, context: ProcessContext, settings: LauncherSettings) -> None:
        self._context, self._settings, self._classes = context, settings, settings.classes
        self.scripts = Scripts(context.redis, "services.launcher.seats.scripts")
        self._keys = [context.keys("{seats}:" + name) for name in ("members", "waiting", "asked", "held")]
        self._keys.append(context.keys("seats:counted"))
        self._common = [settings.seats_total, settings.seats_waiting_max, context.keys.wake("launcher")]
        self._watched: dict[str, Watched] = {}
        self._under_way: dict[str, str] = {}
        self._adds = False
        self._news = asyncio.Event()
        self.uncounted = asyncio.Event()
        """Set when Redis has perhaps lost which seats are taken, as it has for a launcher that begins."""
        self.uncounted.set()
        self.trouble = ""
        """Why the servers that run could not be counted, while that is so."""

    def _call(self, action: str, *args: Any) -> tuple[Scripts, str, list[str], list[Any]]:
        return self.scripts, "seats", self._keys, [action, *self._common, *args]

    async def _run(self, action: str, *args: Any) -> Any:
        _, name, keys, every = self._call(action, *args)
        return await self.scripts.run(name, keys, every)

    def _member(self, repo: ResolvedRepo, user: str = "") -> str:
        quota = self._settings.seats_per_repo if repo.quota is None else repo.quota
        return _member(repository_of(repo), quota, self._classes.cost(self._classes.name_for(repo)), user)

    # For a start

    def reservation(self, server: Server, repo: ResolvedRepo) -> tuple[Scripts, str, list[str], list[Any]]:
        """The script call that takes a seat or a place, to be run together with others. It answers as `take`."""
        return self._call("take", server.server_id, int(server.created_at * 1000), self._member(repo, server.user))

    def taken(self, answer: list[int]) -> Place:
        """What the answer to a reservation means."""
        number, why = int(answer[0]), int(answer[1])
        if why == 2:
            self.uncounted.set()
        reason = (TAKEN_ALL, KEPT_OUT, f"{UNCOUNTED} {self.trouble}".strip())[why]
        return Place(number, reason if number > 0 else "")

    @staticmethod
    def had_before(answer: list[int]) -> bool:
        """Whether the server had its seat, or its place, before it was reserved."""
        return bool(answer[2])

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

    @contextlib.contextmanager
    def under_way(self, server: Server, repo: ResolvedRepo) -> Iterator[None]:
        """For as long as the block, this start is counted also where Redis has lost that it has its seat."""
        self._under_way[server.server_id] = self._member(repo, server.user)
        try:
            yield
        finally:
            self._under_way.pop(server.server_id, None)

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

    def heard(self, *, is_recount: bool = False) -> None:
        """A seat has become free, or the queue has moved; or another launcher counts what runs."""
        self._adds = self._adds or is_recount
        self._news.set()

    async def run(self) -> None:
        """Look where those stand that wait here, when that may have changed, by one call for all; until cancelled."""
        due = time.monotonic() + self._settings.reread_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.reread_seconds):
                    await self._news.wait()
            self._news.clear()
            try:
                with attributed_to("upkeep"):
                    if self._adds or time.monotonic() > due:  # what Redis may have lost, and nobody said so
                        self._adds, due = False, time.monotonic() + self._settings.reread_seconds
                        await self.count_under_way()
                    if self._watched:
                        await self._look()
            except REDIS_UNAVAILABLE as error:
                self._adds = True
                log.warning("redis_away", doing="seats", error=str(error))
            await sleep_unless_cancelled(self._settings.seat_tick_seconds)

    async def _look(self) -> None:
        shown = dict(self._watched)
        answer = await self._run("look", *shown)
        for watched, number, why in zip(shown.values(), answer[::2], answer[1::2], strict=True):
            watched.move(self.taken([number, why]))

    # For who counts, and for the reaper

    async def begin_count(self) -> str:
        """Begin to count what runs: a token for `end_count`, empty where that is known."""
        token = (await self._run("begin", secrets.token_hex(8))).decode()
        return "" if token == "yes" else token  # noqa: S105 - what the script answers

    async def count_under_way(self) -> None:
        """Count the starts of this process."""
        await self._count(list(self._under_way.items()))

    async def end_count(self, token: str) -> bool:
        """Everything that runs is counted: seats are given again. False where Redis was emptied meanwhile."""
        return bool(await self._run("end", token))

    async def members(self) -> dict[str, Member]:
        """Every server that holds a seat."""
        raw = await self._context.redis.hgetall(self._keys[0])
        found = {name.decode(): json.loads(kept) for name, kept in raw.items()}
        return {
            name: Member(float(kept.get("reserved_at", 0)), str(kept.get("user", ""))) for name, kept in found.items()
        }

    async def waiting(self) -> list[str]:
        """Every server that waits for a seat, by the time at which it asked."""
        return [name.decode() for name in await self._context.redis.zrange(self._keys[1], 0, -1)]

    async def count(self, *found: Counted) -> None:
        """Count servers that the hub lists as ours, although no reservation of them is known."""
        costs = self._classes.cost
        await self._count(
            [(one.server_id, _member(one.repo, -1, costs(one.resource_class), one.user)) for one in found]
        )

    async def _count(self, members: list[tuple[str, str]]) -> None:
        for at in range(0, len(members), COUNTED_AT_ONCE):
            await self._run("count", *(part for pair in members[at : at + COUNTED_AT_ONCE] for part in pair))

    async def mend(self) -> None:
        """Reckon anew how many seats are taken, and tell the metrics."""
        if int(await self._run("mend")):
            log.warning("seats_were_miscounted")
        TAKEN.set(int(await self._context.redis.hget(self._keys[3], "total") or 0))
        WAITING.set(await self._context.redis.zcard(self._keys[1]))


def _member(repo: str, quota: int, cost: int, user: str) -> str:
    kept = {"v": 1, "repo": repo, "cost": cost, "quota": quota, "reserved_at": time.time(), "user": user}
    return json.dumps(kept)


def refuse(place: int) -> None:
    """Raise `BinderyError("quota_exceeded")` where the script gave neither a seat nor a place."""
    if place == NEVER:
        raise BinderyError("quota_exceeded", "No servers of this kind are started here at the moment.")
    if place == FULL:
        raise BinderyError("quota_exceeded", "Too many servers are running, and too many launches wait for a seat.")
