"""Seats: the limit on how many servers run at once, and the fair queue of launches that wait for one.

A server holds a seat from its reservation until the hub no longer lists it. Every change of seats and queue is a script
in Redis, so that launchers never disagree: see `scripts/shared/seats.lua`.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from services.common.context import ProcessContext
from services.common.git.repository_url import repository_of
from services.common.models import ResolvedRepo, Server
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.scripts import ScriptArg, ScriptCall, Scripts
from services.common.service.call_accounting import attributed_to
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import sleep_unless_cancelled, wait_and_clear
from services.launcher.seats.positions import (
    BlockedBy,
    SeatPosition,
    SeatReservation,
    WatchedPosition,
    raise_if_refused,
)
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)


COUNT_BATCH = 200
"""Servers counted by one call of the script."""

ALL_TAKEN = "All seats are taken."
QUOTA_REACHED = "This repository already has as many servers as it may have."
COUNT_UNKNOWN = "It is not known yet how many servers run."


class SeatClaim(NamedTuple):
    """A server that takes seats because the hub lists it, whether or not a reservation is known."""

    server_id: str
    repo: str = ""
    resource_class: str = ""
    user: str = ""


class SeatHolder(NamedTuple):
    """A server that holds a seat: since when, and its user at the hub, if known."""

    reserved_at: float
    user: str


class SeatUsage(NamedTuple):
    """How many seats are taken, in units of quota, and how many launches wait for one."""

    taken: int
    waiting: int


class Seats:
    """Seats of all launchers of this installation. Taking a seat again, or releasing it again, has no effect."""

    def __init__(self, context: ProcessContext, settings: LauncherSettings) -> None:
        self._context = context
        self._settings = settings
        self._classes = settings.classes
        self.scripts = Scripts(context.redis, "services.launcher.seats.scripts")
        self._holders_key = context.keys("{seats}:members")
        self._waiting_key = context.keys("{seats}:waiting")
        self._requests_key = context.keys("{seats}:asked")
        self._held_key = context.keys("{seats}:held")
        self._counted_key = context.keys("seats:counted")
        self._limits: list[ScriptArg] = [
            settings.seats_total,
            settings.seats_waiting_max,
            context.keys.wake("launcher"),
        ]

        self._watched: dict[str, WatchedPosition] = {}
        self._own_starts: dict[str, str] = {}
        self._count_started = asyncio.Event()
        self._queue_changed = asyncio.Event()

        self.count_needed = asyncio.Event()
        """Set while Redis may have lost which seats are taken; true for a launcher that begins."""
        self.count_needed.set()
        self.count_error = ""
        """Why the running servers could not be counted, while that is so."""
        self.count_refusal: BinderyError | None = None
        """The hub's refusal of our token, by which they can't be counted: only the operator can mend that."""

    def _call(self, script: str, *args: ScriptArg) -> ScriptCall:
        keys = [self._holders_key, self._waiting_key, self._requests_key, self._held_key, self._counted_key]
        return ScriptCall(self.scripts, script, keys, [*self._limits, *args])

    async def _run(self, script: str, *args: ScriptArg) -> Any:
        return await self._call(script, *args).run()

    def _holder_json(self, repo: ResolvedRepo, user: str = "") -> str:
        quota = self._settings.seats_per_repo if repo.quota is None else repo.quota
        cost = self._classes.cost(self._classes.name_for(repo))
        return _holder_json(repository_of(repo), quota=quota, cost=cost, user=user)

    # Reserving and releasing

    def reservation(self, server: Server, repo: ResolvedRepo) -> ScriptCall:
        """Return the script call that takes a seat or a position; `SeatReservation.parse` reads its answer."""
        return self._call("take", server.server_id, int(server.created_at * 1000), self._holder_json(repo, server.user))

    def position(self, number: int, blocked_by: int) -> SeatPosition:
        """Return a script's position in the queue with its reason; request a count if the script lacks one."""
        if blocked_by == BlockedBy.NOT_COUNTED:
            self.count_needed.set()
        if number <= 0:
            return SeatPosition(number)

        reasons = {
            BlockedBy.ADMISSIBLE: ALL_TAKEN,
            BlockedBy.KEPT_OUT: QUOTA_REACHED,
            BlockedBy.NOT_COUNTED: f"{COUNT_UNKNOWN} {self.count_error}".strip(),
        }
        kind = BlockedBy(blocked_by)
        return SeatPosition(number, reasons[kind], kind)

    async def take(self, server: Server, repo: ResolvedRepo) -> SeatPosition:
        """Take a seat or a position in the queue; NEVER or FULL if the server gets neither."""
        reservation = SeatReservation.parse(await self.reservation(server, repo).run())
        return self.position(reservation.number, reservation.blocked_by)

    async def check(self, repo: ResolvedRepo) -> None:
        """Raise `BinderyError` if a launch of `repo` would get neither a seat nor a position, or has no valid class."""
        raise_if_refused(int(await self._run("check", self._holder_json(repo))))

    async def release(self, *server_ids: str) -> None:
        """Release the seats, or the positions in the queue, of servers."""
        if server_ids:
            await self._run("release", *server_ids)

    # Following the queue

    @contextlib.contextmanager
    def watch(self, server_id: str, position: SeatPosition) -> Iterator[WatchedPosition]:
        """Keep the position of a launch up to date while the block runs."""
        watched = WatchedPosition(position)
        self._watched[server_id] = watched
        self._queue_changed.set()
        try:
            yield watched
        finally:
            if self._watched.get(server_id) is watched:
                del self._watched[server_id]

    def on_queue_changed(self) -> None:
        """Look at the queue soon: a seat was released, or the queue has moved."""
        self._queue_changed.set()

    def on_count_failed(self, reason: str, refusal: BinderyError | None = None) -> None:
        """Give the launches that wait a reason why the running servers are not counted yet, or an end by a refusal."""
        self.count_error = reason
        self.count_refusal = refusal
        self._queue_changed.set()

    def on_count_started(self) -> None:
        """Count the starts of this process soon, as another launcher has begun to count the running servers."""
        self._count_started.set()

    async def run(self) -> None:
        """Refresh the watched positions whenever the queue may have changed, until cancelled."""
        self._context.bus.on_loss(self._queue_changed.set)
        await run_forever(self.refresh, name="seats", wait=self._wait_for_change, unavailable=REDIS_UNAVAILABLE)

    async def _wait_for_change(self) -> None:
        await sleep_unless_cancelled(self._settings.seat_tick_seconds)
        await wait_and_clear(self._queue_changed, seconds=self._settings.reread_seconds)

    async def recount_own_starts(self) -> None:
        """Count the starts of this process again and again, until cancelled.

        Also without a message: Redis may have lost these starts, and the message with them.
        """
        wait = partial(wait_and_clear, self._count_started, seconds=self._settings.recount_seconds)
        await run_forever(self.count_own_starts, name="own_starts", wait=wait, unavailable=REDIS_UNAVAILABLE)

    async def refresh(self) -> None:
        """Update every watched position, by one call for all."""
        if not self._watched:
            return
        watched_now = dict(self._watched)
        with attributed_to("upkeep"):
            answer = await self._run("positions", *watched_now)
        for watched, number, blocked_by in zip(watched_now.values(), answer[::2], answer[1::2], strict=True):
            watched.update(self.position(number, blocked_by))

    # Counting the running servers

    @contextlib.contextmanager
    def include_in_counts(self, server: Server, repo: ResolvedRepo) -> Iterator[None]:
        """Include a start in every count while the block runs, even if Redis has lost its seat."""
        holder = self._holder_json(repo, server.user)
        self._own_starts[server.server_id] = holder
        try:
            yield
        finally:
            if self._own_starts.get(server.server_id) is holder:  # else this process has adopted the start meanwhile
                del self._own_starts[server.server_id]

    async def begin_count(self) -> str:
        """Begin a count of the running servers. Return its token for `end_count`, or "" if the count is known."""
        token = (await self._run("begin_count", secrets.token_hex(8))).decode()
        return "" if token == "yes" else token  # noqa: S105 - the script's answer

    async def count_own_starts(self) -> None:
        """Count the starts of this process."""
        with attributed_to("upkeep"):
            await self._count(list(self._own_starts.items()))

    async def count(self, *claims: SeatClaim) -> None:
        """Count servers that the hub lists, unless they hold a seat already."""
        holders = []
        for claim in claims:
            cost = self._classes.cost(claim.resource_class)
            holders.append((claim.server_id, _holder_json(claim.repo, quota=-1, cost=cost, user=claim.user)))
        await self._count(holders)

    async def _count(self, holders: list[tuple[str, str]]) -> None:
        for start in range(0, len(holders), COUNT_BATCH):
            batch = holders[start : start + COUNT_BATCH]
            await self._run("count", *(argument for holder in batch for argument in holder))

    async def end_count(self, token: str) -> bool:
        """End a count, so that seats are given again. Return False if Redis was emptied meanwhile."""
        return bool(await self._run("end_count", token))

    async def repair_totals(self) -> None:
        """Recompute how many seats are taken from the servers that hold one."""
        if int(await self._run("repair_totals")):
            log.warning("seats_were_miscounted")

    # Reading

    async def usage(self) -> SeatUsage:
        """Return the use of the seats now. Raise `ValueError` if what Redis has of it is damaged."""
        async with self._context.redis.pipeline(transaction=False) as pipeline:
            pipeline.hget(self._held_key, "total")
            pipeline.zcard(self._waiting_key)
            total, waiting = await pipeline.execute()
        return SeatUsage(taken=int(total or 0), waiting=int(waiting))

    async def holders(self) -> dict[str, SeatHolder]:
        """Return every server that holds a seat, by its id."""
        stored_holders = await self._context.redis.hgetall(self._holders_key)
        holders = {}
        for server_id, raw in stored_holders.items():
            holders[server_id.decode(errors="replace")] = _parse_holder(raw)
        return holders

    async def waiting_server_ids(self) -> list[str]:
        """Return the id of every server that waits for a seat, in the order of their requests."""
        return [
            server_id.decode(errors="replace")
            for server_id in await self._context.redis.zrange(self._waiting_key, 0, -1)
        ]


def _parse_holder(raw: bytes) -> SeatHolder:
    """Return a holder as the scripts read it: one that is damaged is without user and age, but still one."""
    try:
        stored = json.loads(raw)
        return SeatHolder(float(stored.get("reserved_at", 0)), str(stored.get("user", "")))
    except (ValueError, TypeError, AttributeError):
        return SeatHolder(0.0, "")


def _holder_json(repo: str, *, quota: int, cost: int, user: str) -> str:
    fields = {"v": 1, "repo": repo, "cost": cost, "quota": quota, "reserved_at": clock.now(), "user": user}
    return json.dumps(fields)
