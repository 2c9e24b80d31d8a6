"""Starting one server: seat, user, server, progress, ready. May be begun again at any point, by any process."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Histogram

from services.common.context import ProcessContext
from services.common.models import Event, Phase, Queue, ResolvedRepo, Server, ServerState
from services.common.models.errors import BinderyError
from services.common.records.records import Fenced, OwnedRecord, RecordLost
from services.common.redis.client import retry_while_unavailable
from services.common.service.logging import get_logger
from services.launcher.hub.client import Hub, HubUnavailable
from services.launcher.hub.retry_budget import PAUSE_MAX_SECONDS, Deadline, RetryBudget
from services.launcher.seats.seats import SEATED, UNCOUNTED, UNKNOWN, Place, Seats, refuse
from services.launcher.settings import LauncherSettings
from services.launcher.start.relay import HUB_FIRST_SECONDS, Ended, Relay
from services.launcher.start.spawn_limiter import SpawnLimiter

log = get_logger(__name__)

STARTS = Counter("bindery_server_starts_total", "Server starts that ended, by outcome", ["outcome"])
SECONDS = Histogram(
    "bindery_server_start_seconds", "Time from seat to ready, in seconds", ["outcome"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)  # fmt: skip

ADOPTED_SECONDS = 10.0
"""How long one that is adopted after its deadline has, at least: it may have become ready meanwhile."""


@dataclass
class Start:
    """One start of one server, by the process that owns it."""

    context: ProcessContext
    settings: LauncherSettings
    hub: Hub
    seats: Seats
    spawns: SpawnLimiter
    claimed: OwnedRecord
    server: Server
    repo: ResolvedRepo
    options: Mapping[str, Any]
    asked: asyncio.Event
    """Set when someone has asked for this start to be cancelled."""
    place: Place | None = None
    """Where it stands in the queue for seats, where that is known already."""
    begun: float = 0.0
    """When it had its seat and its turn at the hub; 0 where that is not known."""
    is_adopted: bool = False

    def __post_init__(self) -> None:
        self.announced = self.server.token
        self.relay = Relay(self.settings, self.hub, self.claimed, lambda: self.server)
        self.patience = RetryBudget(self.settings, self.relay.tell)
        self.asked_for_user = self.asked_for_server = self.is_adopted
        """What there may be on the hub; of one that is adopted nobody knows."""

    async def run(self) -> None:
        """See the start through. Cancelling this coroutine is a handover: it touches nothing."""
        try:
            start = asyncio.create_task(self._start(), name=f"start {self.server.server_id}")
            cancel = asyncio.create_task(self.asked.wait(), name=f"cancel {self.server.server_id}")
            try:
                await asyncio.wait({start, cancel}, return_when=asyncio.FIRST_COMPLETED)
                await _ended(start)
                if start.cancelled():
                    await self.failed(BinderyError("cancelled", "The launch was cancelled."))
                else:
                    await start
            finally:
                await _ended(start)
                await _ended(cancel)
        except BinderyError as error:
            await self.failed(error)
        except (Fenced, RecordLost) as error:
            log.warning("start_not_ours", server_id=self.server.server_id, why=type(error).__name__)
        except Exception as error:
            log.exception("start_broke", server_id=self.server.server_id, error=str(error))
            await self.failed(BinderyError("internal"))

    async def _start(self) -> None:
        has_waited = await self._seat()
        async with contextlib.AsyncExitStack() as turn:
            turn.enter_context(self.seats.under_way(self.server, self.repo))
            try:
                async with asyncio.timeout(self.settings.seat_wait_seconds):
                    # An adopted one that waited for nothing may be on the hub already, and is counted there.
                    is_already = self.is_adopted and not has_waited
                    under_way = self.spawns.under_way(
                        is_already=is_already, on_wait=self._wait_for_turn, on_long_wait=self._tell_of_turn
                    )
                    await turn.enter_async_context(under_way)
            except TimeoutError as error:
                raise BinderyError("hub_busy", "JupyterHub had as many starts under way as it may.") from error
            await self._see_up(has_waited=has_waited or self.server.queue is not None)
        await self._ready()

    async def _wait_for_turn(self) -> None:
        """Who adopts this start now is to know that the hub has not been asked yet."""
        self.server = self.server.updated(queue=Queue(reason="JupyterHub has as many starts under way as it may."))
        await self.claimed.write(body=self.server)

    async def _tell_of_turn(self) -> None:
        await self.relay.tell("JupyterHub has as many starts under way as it may; this one waits for its turn.")

    # 1: a seat

    async def _seat(self) -> bool:
        """Wait for a seat, with a place that is told as it changes. True where there was something to wait for."""
        deadline = self.server.created_at + self.settings.seat_wait_seconds
        place = self.place if self.place is not None else await self._take_seat()
        if place.number == SEATED:
            return bool(self.server.queue)
        shown, told = Place(UNKNOWN), 0.0
        with self.seats.watching(self.server.server_id, place) as watched:
            while watched.place.number != SEATED:
                if watched.place.number == UNKNOWN:  # Redis was emptied
                    watched.move(await self._take_seat())
                    continue
                refuse(watched.place.number)
                now = time.time()
                # Those far behind are told less often: it is many who move with each seat.
                due = told + self.settings.seat_told_seconds * min(5.0, max(1.0, watched.place.number / 20))
                if watched.place != shown and now >= due:
                    shown, told = watched.place, now
                    await self._tell_place(shown)
                    continue
                if now >= deadline and watched.place.reason.startswith(UNCOUNTED):
                    raise BinderyError("hub_unavailable", watched.place.reason)
                if now >= deadline:
                    waited = self.settings.seat_wait_seconds
                    raise BinderyError(
                        "quota_exceeded", f"Too many servers are running: no seat became free in {waited:.0f} s."
                    )
                await watched.wait(min(deadline, due if watched.place != shown else deadline) - now)
        return True

    async def _tell_place(self, place: Place) -> None:
        queue = place.queue or Queue(reason="")
        message = f"{queue.reason.removesuffix('.')}; you are number {place.number} in the queue.\n"
        self.server = self.server.updated(queue=queue)
        await self.claimed.write(Event(phase=Phase.WAITING, message=message, queue=queue), body=self.server)

    async def _take_seat(self) -> Place:
        return await retry_while_unavailable(
            lambda: self.seats.take(self.server, self.repo), seconds=self.settings.redis_patience_seconds
        )

    # 2: user, server, progress

    async def _see_up(self, *, has_waited: bool) -> None:
        """Have the server started, within the deadline of the whole start."""
        # One that took its seat when it was asked for began then, whoever goes on with it.
        self.begun = self.begun or (time.time() if has_waited else self.server.created_at)
        if self.server.state is ServerState.WAITING:
            self.server = self.server.updated(state=ServerState.STARTING, queue=None)
        if has_waited:
            await self.claimed.write(body=self.server, fields={"begun": self.begun})
        if self.is_adopted:
            await self.relay.recall()
        seconds, gone = self.settings.server_start_timeout_seconds, time.time() - self.begun
        deadline = Deadline(hard_seconds=self.settings.server_start_max_seconds - gone)
        try:
            async with deadline.within(max(seconds + HUB_FIRST_SECONDS - gone, ADOPTED_SECONDS)):
                await self._until_ready(deadline)
        except TimeoutError as error:
            took = f"{time.time() - self.begun:.0f} s"
            if self.patience.busy:
                raise BinderyError("hub_busy", f"JupyterHub was busy for {took}: {self.patience.busy}.") from error
            if self.patience.away:
                raise self.patience.away from error
            raise self.relay.signs.timed_out(f"The server did not answer within {took}.") from error

    async def _until_ready(self, deadline: Deadline) -> None:
        user, name, call = self.server.user, self.server.server_name, self.patience.call
        pause = self.settings.retry_pause_seconds
        has_user = False
        while True:
            if not has_user:
                self.asked_for_user = True
                await call("create the user", lambda: self.hub.create_user(user))
            self.asked_for_server = True
            found = await call("start the server", lambda: self.hub.start_server(user, name, self.options))
            if has_user := found is not None:
                # One that was started before, by a record that is lost, has the token that it was started with.
                self.server = self.server.updated(token=found.options.get("token") or self.server.token)
                ended = await call("follow the start", lambda: self.relay.follow(deadline, self.patience))
                if ended is Ended.READY:
                    return
                # The stream ended without a word, or is not sure: the hub was restarted, or is just being stopped.
                listed = await call("read the server", lambda: self.hub.server(user, name))
                if ended is Ended.UNSURE and listed and listed.ready:
                    return
                has_user = listed is not None
                if not listed or not (listed.ready or listed.pending == "spawn"):
                    self.relay.begin_anew()
                    await self.patience.failed(
                        "start the server", HubUnavailable("it knows nothing of this start any more")
                    )
            await asyncio.sleep(pause)
            pause = min(PAUSE_MAX_SECONDS, pause * 2)

    async def _ready(self) -> None:
        now = time.time()
        self.server = self.server.updated(
            state=ServerState.READY,
            ready_at=now,
            expires=now + self.settings.max_age_seconds if self.settings.max_age_seconds else None,
            queue=None,
        )
        said = Event(phase=Phase.LAUNCHING, message=f"Server ready at {self.server.url}\n")
        events, self.relay.pending = self.relay.pending or [said], []
        # What who asked for the server does not know yet; with `changed`, only the record has it.
        is_changed = self.is_adopted or self.server.token != self.announced
        news = {"expires": self.server.expires} | ({"changed": True} if is_changed else {})
        events[-1] = events[-1].updated(terminal=True, state=ServerState.READY, **news)
        await self.claimed.write(*events, body=self.server, release=True)
        STARTS.labels("ready").inc()
        SECONDS.labels("ready").observe(now - self.begun)

    async def failed(self, error: BinderyError) -> None:
        """Tell at once, then remove what there is on the hub; the reaper does it where this process can't.

        A start whose `ready` is on its way, or was told, stays ready: of two ends each follower would take another.
        """
        if self.server.state is ServerState.READY:
            with contextlib.suppress(Fenced, RecordLost):
                await self.claimed.write(release=True)  # behind it, whatever became of it so far
            return
        self.server = self.server.updated(state=ServerState.FAILED, error=error.problem, queue=None)
        event = Event(
            phase=Phase.FAILED,
            message=f"{error.detail}\n",
            state=ServerState.FAILED,
            error=error.problem,
            terminal=True,
        )
        STARTS.labels(error.code).inc()
        log.warning("start_failed", server_id=self.server.server_id, code=error.code, detail=error.detail)
        with contextlib.suppress(Fenced, RecordLost):
            await self.claimed.write(*self.relay.pending, event, body=self.server, final=True)
            is_removed = not self.asked_for_user or await remove_from_hub(
                self.hub, self.server, seconds=self.settings.cleanup_timeout_seconds
            )
            # What may still run there keeps its seat, until the reaper finds it gone.
            if is_removed or not self.asked_for_server:
                await self.seats.give_back(self.server.server_id)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task, unless it is done: again and again, as a client below may swallow a cancel while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
    if not task.cancelled():
        task.exception()  # it is raised to who awaits it, if somebody does


async def remove_from_hub(hub: Hub, server: Server, *, seconds: float) -> bool:
    """Stop a server and delete its temporary user, by name. True when both are gone within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await hub.delete_server(server.user, server.server_name):
                await asyncio.sleep(0.2)
            while not await hub.delete_user(server.user):
                await asyncio.sleep(0.2)
    except (TimeoutError, HubUnavailable, BinderyError) as error:
        log.warning("removal_left_to_reaper", server_id=server.server_id, error=str(error) or type(error).__name__)
        return False
    return True
