"""Starting one server: seat, user, server, progress, ready. May be begun again at any point, by any process."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import Counter, Histogram

from services.common.errors import BinderyError
from services.common.logging import get_logger
from services.common.models import Event, Phase, Queue, Server, ServerState
from services.common.records import Claimed, Fenced, RecordLost
from services.common.redis import patiently
from services.common.stage import Stage
from services.launcher.hub import Hub, HubAway, Progress, start_failure
from services.launcher.seats import Seats
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

STARTS = Counter("bindery_server_starts_total", "Server starts that ended, by outcome", ["outcome"])
SECONDS = Histogram(
    "bindery_server_start_seconds", "Time from seat to ready, in seconds", ["outcome"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)  # fmt: skip

T = TypeVar("T")
QUIET_SECONDS = 0.25
"""Progress is flushed when the hub has been quiet for this long, so that a quick start is one write."""
ADOPTED_SECONDS = 10.0
"""How long one that is adopted after its deadline has, at least: it may have become ready meanwhile."""
HUB_FIRST_SECONDS = 10.0
"""How much longer than the spawner's deadline ours is: the spawner can say why."""


@dataclass
class Start:
    """One start of one server, by the process that owns it."""

    stage: Stage
    settings: LauncherSettings
    hub: Hub
    seats: Seats
    claimed: Claimed
    server: Server
    options: dict[str, str]
    asked: asyncio.Event
    """Set when someone has asked for this start to be cancelled."""
    place: int | None = None
    """The place in the queue for seats, where it is known already; 0 for a seat."""
    is_known_to_hub: bool = False
    pending: list[Event] = field(default_factory=list)
    begun: float = 0.0
    """When it had its seat; 0 where that is not known."""
    busy: str = ""
    """What the hub says that is too busy to start this."""
    is_adopted: bool = False

    def __post_init__(self) -> None:
        self.announced = self.server.token

    async def run(self) -> None:
        """See the start through. Cancelling this coroutine is a handover: it touches nothing."""
        try:
            start = asyncio.create_task(self._start(), name=f"start {self.server.server_id}")
            cancel = asyncio.create_task(self.asked.wait(), name=f"cancel {self.server.server_id}")
            try:
                await asyncio.wait({start, cancel}, return_when=asyncio.FIRST_COMPLETED)
                if not start.done():
                    start.cancel()
                    await asyncio.gather(start, return_exceptions=True)
                    await self._failed(BinderyError("cancelled", "The launch was cancelled."))
                else:
                    await start
            finally:
                start.cancel()
                cancel.cancel()
                await asyncio.gather(start, cancel, return_exceptions=True)
        except BinderyError as error:
            await self._failed(error)
        except (Fenced, RecordLost) as error:
            log.warning("start_not_ours", server_id=self.server.server_id, why=type(error).__name__)
        except Exception as error:
            log.exception("start_broke", server_id=self.server.server_id, error=str(error))
            await self._failed(BinderyError("internal"))

    async def _start(self) -> None:
        has_waited = await self._seat()
        # One that took its seat when it was asked for began then, whoever goes on with it.
        self.begun = self.begun or (time.time() if has_waited else self.server.created_at)
        if self.server.state is ServerState.WAITING:
            self.server = self.server.updated(state=ServerState.STARTING, queue=None)
        if has_waited:
            await self.claimed.write(body=self.server, fields={"begun": self.begun})
        seconds = self.settings.server_start_timeout_seconds
        left = self.begun + seconds + HUB_FIRST_SECONDS - time.time()
        try:
            async with asyncio.timeout(max(left, ADOPTED_SECONDS)):
                await self._until_ready()
        except TimeoutError as error:
            if self.busy:
                raise BinderyError(
                    "hub_unavailable", f"JupyterHub was busy for {seconds:.0f} s: {self.busy}."
                ) from error
            raise BinderyError("server_start_timeout", f"The server did not answer within {seconds:.0f} s.") from error
        await self._ready()

    async def _seat(self) -> bool:
        """Wait for a seat, with a place that is told as it changes. True where there was something to wait for."""
        deadline = self.server.created_at + self.settings.seat_wait_seconds
        shown = None
        freed = self.seats.freed
        place = self.place if self.place is not None else await self._take_seat()
        has_waited = bool(place or self.server.queue)
        while place:
            if place != shown:
                shown = place
                queue = Queue(reason="All seats are taken.", position=place)
                message = f"All seats are taken; you are number {place} in the queue.\n"
                self.server = self.server.updated(queue=queue)
                await self.claimed.write(Event(phase=Phase.WAITING, message=message, queue=queue), body=self.server)
            left = deadline - time.time()
            if left <= 0:
                waited = self.settings.seat_wait_seconds
                raise BinderyError(
                    "quota_exceeded", f"Too many servers are running: no seat became free in {waited:.0f} s."
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, self.settings.reread_seconds)):
                    await freed.wait()
            freed = self.seats.freed
            place = await self._take_seat()
        return has_waited

    async def _take_seat(self) -> int:
        return await patiently(lambda: self.seats.take(self.server), seconds=self.settings.redis_patience_seconds)

    async def _until_ready(self) -> None:
        user, name = self.server.user, self.server.server_name
        if not self.is_known_to_hub:
            await self._patiently("create the user", lambda: self.hub.create_user(user))
        pause = self.settings.retry_pause_seconds
        while True:
            found = await self._patiently("start the server", lambda: self.hub.start_server(user, name, self.options))
            # One that was started before, by a record that is lost, has the token that it was started with.
            self.server = self.server.updated(token=found.options.get("token") or self.server.token)
            if found.ready or await self._patiently("follow the start", self._follow):
                return
            # The stream ended without a word: the hub was restarted, perhaps. Ask it where things stand.
            listed = await self._patiently("read the server", lambda: self.hub.server(user, name))
            if listed and listed.ready:
                return
            if listed is None:
                await self._patiently("create the user", lambda: self.hub.create_user(user))
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _follow(self) -> bool:
        """Relay the hub's progress. True when the server is ready. Raises `BinderyError` when its start failed."""
        stream = self.hub.progress(self.server.user, self.server.server_name)
        following = stream.__aiter__()
        upcoming: asyncio.Task[Progress] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(_next(following))
                done, _ = await asyncio.wait({upcoming}, timeout=QUIET_SECONDS if self.pending else None)
                if not done:
                    await self._flush()
                    continue
                progress, upcoming = upcoming.result(), None
                if progress.failed:
                    raise start_failure(progress.message)
                if progress.message:
                    self.pending.append(Event(phase=Phase.LAUNCHING, message=f"{progress.message.rstrip()}\n"))
                if progress.ready:
                    return True
        except StopAsyncIteration:
            return False
        finally:
            if upcoming:
                upcoming.cancel()
                await asyncio.gather(upcoming, return_exceptions=True)
            with contextlib.suppress(Exception):
                await stream.aclose()  # type: ignore[attr-defined]

    async def _flush(self) -> None:
        events, self.pending = self.pending, []
        if events:
            await self.claimed.write(*events, body=self.server)

    async def _patiently(self, doing: str, call: Callable[[], Awaitable[T]]) -> T:
        """`await call()`, again while the hub is away; each failure is told once as an event.

        A hub that is busy is well: it is waited for until the start's own deadline.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.hub_patience_seconds
        pause, told = self.settings.retry_pause_seconds, ""
        while True:
            self.busy = ""
            try:
                return await call()
            except HubAway as error:
                wait = error.retry_after_seconds or pause * random.uniform(0.7, 1.3)  # noqa: S311
                if error.is_busy:
                    wait = min(wait, self.settings.hub_busy_pause_max_seconds) * random.uniform(0.7, 1.0)  # noqa: S311
                    deadline += wait
                    self.busy = str(error)
                elif loop.time() + wait > deadline:
                    raise BinderyError("hub_unavailable", f"JupyterHub could not {doing}: {error}.") from error
                if told != (told := "busy" if error.is_busy else str(error)):
                    log.warning("hub_away", doing=doing, error=str(error), server_id=self.server.server_id)
                    message = f"JupyterHub could not {doing} yet ({error}); asking again.\n"
                    self.pending.append(Event(phase=Phase.LAUNCHING, message=message))
                    await self._flush()
            await asyncio.sleep(wait)
            pause = min(5.0, pause * 2)

    async def _ready(self) -> None:
        now = time.time()
        self.server = self.server.updated(
            state=ServerState.READY,
            ready_at=now,
            expires=now + self.settings.max_age_seconds if self.settings.max_age_seconds else None,
            queue=None,
        )
        if not self.pending:
            self.pending = [Event(phase=Phase.LAUNCHING, message=f"Server ready at {self.server.url}\n")]
        # What who asked for the server does not know yet; with `changed`, only the record has it.
        is_changed = self.is_adopted or self.server.token != self.announced
        news = {"expires": self.server.expires} | ({"changed": True} if is_changed else {})
        self.pending[-1] = self.pending[-1].updated(terminal=True, state=ServerState.READY, **news)
        await self.claimed.write(*self.pending, body=self.server, release=True)
        STARTS.labels("ready").inc()
        SECONDS.labels("ready").observe(now - self.begun)

    async def _failed(self, error: BinderyError) -> None:
        """Tell at once, then remove what there is on the hub; the reaper does it where this process can't."""
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
            await self.claimed.write(*self.pending, event, body=self.server, final=True)
            await remove_from_hub(self.hub, self.server, seconds=self.settings.cleanup_timeout_seconds)
            await self.seats.give_back(self.server.server_id)


async def _next(following: object) -> Progress:
    found: Progress = await following.__anext__()  # type: ignore[attr-defined]
    return found


async def remove_from_hub(hub: Hub, server: Server, *, seconds: float) -> bool:
    """Stop a server and delete its temporary user, by name. True when both are gone within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await hub.delete_server(server.user, server.server_name):
                await asyncio.sleep(0.2)
            while not await hub.delete_user(server.user):
                await asyncio.sleep(0.2)
    except (TimeoutError, HubAway, BinderyError) as error:
        log.warning("removal_left_to_reaper", server_id=server.server_id, error=str(error) or type(error).__name__)
        return False
    return True
