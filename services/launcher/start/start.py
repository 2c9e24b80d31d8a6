"""One start of a server: wait for a seat, then for a turn at the hub; create user and server; wait until it is ready.

Another process may repeat every step: each is recorded before its effect, and the hub knows the server by its name.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter, Histogram

from services.common.models import Event, Phase, Queue, ResolvedRepo, Server, ServerState
from services.common.models.errors import BinderyError
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.redis.client import REDIS_PY_UNAVAILABLE, retry_while_unavailable
from services.common.service.backoff import Backoff
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.tasks import Interrupted, run_until
from services.launcher.hub.client import Hub
from services.launcher.hub.errors import HubUnavailable
from services.launcher.hub.removal import remove_from_hub
from services.launcher.hub.retry_budget import PAUSE_MAX_SECONDS, Deadline, RetryBudget
from services.launcher.seats.positions import SeatAnswer, SeatPosition, raise_if_refused
from services.launcher.seats.seats import Seats
from services.launcher.settings import LauncherSettings
from services.launcher.start.relay import SPAWNER_FIRST_SECONDS, ProgressEnd, Relay
from services.launcher.start.route import await_route
from services.launcher.start.spawn_limiter import SpawnLimiter

log = get_logger(__name__)

STARTS = Counter("bindery_server_starts_total", "Server starts that ended, by outcome", ["outcome"])
DURATION = Histogram(
    "bindery_server_start_seconds", "Time from seat to ready, in seconds", ["outcome"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)  # fmt: skip

ADOPTED_MIN_SECONDS = 10.0
"""Least time for a start that is adopted after its deadline: it may have become ready meanwhile."""

TURN_REASON = "JupyterHub has as many starts under way as it allows"


@dataclass(kw_only=True)
class Start:
    """One start of one server, run by the process that owns its record."""

    settings: LauncherSettings
    hub: Hub
    seats: Seats
    spawn_limiter: SpawnLimiter
    record: OwnedRecord
    server: Server
    repo: ResolvedRepo
    cancel_requested: asyncio.Event
    """Set when this start is to be cancelled."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The `user_options` for the spawner."""
    position: SeatPosition | None = None
    """The answer to the reservation of its seat; None if it must ask for one."""
    began_at: float = 0.0
    """When it had its seat and its turn at the hub; 0 if unknown."""
    is_adopted: bool = False

    def __post_init__(self) -> None:
        """Create the deadline, and relay and budget, which report through this start's record."""
        self.deadline = Deadline()
        self.relay = Relay(
            settings=self.settings,
            hub=self.hub,
            record=self.record,
            deadline=self.deadline,
            server=lambda: self.server,
        )
        self.retry_budget = RetryBudget(self.settings, self.relay.announce)
        self._announced_token = self.server.token
        # What may exist at the hub and must be removed after a failure; for an adopted start, anything may.
        self._may_have_user = self.is_adopted
        self._may_have_server = self.is_adopted
        self._ready_events: list[Event] = []

    async def run(self) -> None:
        """Run the start to its end. Cancelling this coroutine hands the start over: nothing is undone.

        Raise redis-py's error if Redis was unavailable for too long. Nothing is undone then either: the start is taken
        over once Redis is back.
        """
        try:
            await self._start_until_cancelled()
        except BinderyError as error:
            await self.fail(error)
        except Fenced:
            log.warning("start_not_ours", server_id=self.server.server_id)
        except REDIS_PY_UNAVAILABLE:
            raise  # it says nothing about the server, whose end could not be recorded anyway
        except Exception as error:
            log.exception("start_broke", server_id=self.server.server_id, error=str(error))
            await self.fail(BinderyError("internal"))

    async def _start_until_cancelled(self) -> None:
        try:
            await run_until(
                self.cancel_requested,
                self._start(),
                name=f"start {self.server.server_id}",
                again_seconds=self.record.store.cancel_again_seconds,
                within_seconds=self.record.store.cancel_within_seconds,
            )
        except Interrupted:
            await self.fail(BinderyError("cancelled", "The launch was cancelled."))

    async def _start(self) -> None:
        has_waited = await self._wait_for_seat()
        async with contextlib.AsyncExitStack() as resources:
            resources.enter_context(self.seats.include_in_counts(self.server, self.repo))
            await self._wait_for_turn(resources, has_waited=has_waited)

            has_waited_at_all = has_waited or self.server.queue is not None  # for a seat, or for a turn
            await self._await_ready(has_waited=has_waited_at_all)
        if self.settings.hub_checks_proxy:
            await await_route(self.hub, self.server, seconds=self.settings.server_route_seconds)
        await self._finish_ready()

    # 1. A seat

    async def _wait_for_seat(self) -> bool:
        """Wait for a seat and announce the position in the queue as it changes. Return whether there was a wait.

        Raise `BinderyError`: `quota_exceeded`, `hub_unavailable` if the running servers could not be counted, or at
        once `hub_token_refused` if the hub does not let them be counted.
        """
        deadline = self.server.created_at + self.settings.seat_wait_seconds
        position = self.position if self.position is not None else await self._take_seat()
        if position.is_seated:
            return bool(self.server.queue)

        announced = SeatPosition(SeatAnswer.UNKNOWN)
        announced_at = 0.0
        with self.seats.watch(self.server.server_id, position) as watched:
            while not watched.position.is_seated:
                if watched.position.is_lost:
                    watched.update(await self._take_seat())
                    continue
                raise_if_refused(watched.position.number)
                refusal = self.seats.count_refusal
                if refusal and watched.position.waits_for_count:
                    raise BinderyError(refusal.code, refusal.detail)

                now = clock.now()
                # Many launches move with each seat, so those far behind are updated less often.
                factor = min(5.0, max(1.0, watched.position.number / 20))
                due_at = announced_at + self.settings.seat_told_seconds * factor
                has_moved = watched.position != announced
                if has_moved and now >= due_at:
                    announced = watched.position
                    announced_at = now
                    await self._announce_position(announced)
                    continue

                if now >= deadline:
                    raise self._seat_timeout(watched.position)
                wake_at = min(deadline, due_at) if has_moved else deadline
                await watched.wait(wake_at - now)
        return True

    def _seat_timeout(self, position: SeatPosition) -> BinderyError:
        if position.waits_for_count:
            return BinderyError("hub_unavailable", position.reason)
        seconds = self.settings.seat_wait_seconds
        return BinderyError("quota_exceeded", f"Too many servers are running: no seat became free in {seconds:.0f} s.")

    async def _announce_position(self, position: SeatPosition) -> None:
        queue = position.queue or Queue(reason="")
        message = f"{queue.reason.removesuffix('.')}; you are number {position.number} in the queue.\n"
        self.server = self.server.updated(queue=queue)
        await self.record.write(Event(phase=Phase.WAITING, message=message, queue=queue), body=self.server)

    async def _take_seat(self) -> SeatPosition:
        return await retry_while_unavailable(
            lambda: self.seats.take(self.server, self.repo), seconds=self.settings.redis_patience_seconds
        )

    # 2. A turn at the hub

    async def _wait_for_turn(self, resources: contextlib.AsyncExitStack, *, has_waited: bool) -> None:
        """Wait until the hub may be asked, and keep the turn in `resources`. Raise `BinderyError("hub_busy")`."""
        # An adopted start that did not wait for a seat may be at the hub already, and is counted there.
        turn = self.spawn_limiter.turn(
            is_already_pending=self.is_adopted and not has_waited,
            on_wait=self._record_turn_wait,
            on_long_wait=self._announce_turn_wait,
        )
        try:
            async with asyncio.timeout(self.settings.seat_wait_seconds):
                await resources.enter_async_context(turn)
        except TimeoutError as error:
            raise BinderyError("hub_busy", "JupyterHub had as many starts under way as it allows.") from error

    async def _record_turn_wait(self) -> None:
        """Record that the hub has not been asked yet, for a process that adopts this start."""
        self.server = self.server.updated(queue=Queue(reason=f"{TURN_REASON}."))
        await self.record.write(body=self.server)

    async def _announce_turn_wait(self) -> None:
        await self.relay.announce(f"{TURN_REASON}; this one waits for its turn.")

    # 3. User, server, progress

    async def _await_ready(self, *, has_waited: bool) -> None:
        """Start the server and wait until it is ready, within the deadline of the whole start."""
        # A start that had its seat at once began when it was requested, whichever process runs it now.
        self.began_at = self.began_at or (clock.now() if has_waited else self.server.created_at)
        if self.server.state is ServerState.WAITING:
            self.server = self.server.updated(state=ServerState.STARTING, queue=None)
        if has_waited:
            await self.record.write(body=self.server, fields={"begun": self.began_at})
        if self.is_adopted:
            await self.relay.load_history()

        elapsed = clock.now() - self.began_at
        remaining = self.settings.server_start_timeout_seconds + SPAWNER_FIRST_SECONDS - elapsed
        hard_seconds = self.settings.server_start_max_seconds - elapsed
        try:
            async with self.deadline.within(max(remaining, ADOPTED_MIN_SECONDS), hard_seconds=hard_seconds):
                await self._ask_until_ready()
        except TimeoutError as error:
            raise self._timeout_error() from error

    def _timeout_error(self) -> BinderyError:
        """Return the error for a start whose deadline has passed: the hub's, if that is why, else the server's."""
        duration = f"{clock.now() - self.began_at:.0f} s"
        if self.retry_budget.busy_reason:
            return BinderyError("hub_busy", f"JupyterHub was busy for {duration}: {self.retry_budget.busy_reason}.")
        if self.retry_budget.unavailable_error:
            return self.retry_budget.unavailable_error
        return self.relay.diagnosis.timeout(f"The server did not answer within {duration}.")

    async def _ask_until_ready(self) -> None:
        """Create the user, start the server and follow the start, again from the step that a restarted hub has lost."""
        user = self.server.user
        name = self.server.server_name
        call = self.retry_budget.call
        pauses = Backoff(first_seconds=self.settings.retry_pause_seconds, longest_seconds=PAUSE_MAX_SECONDS, jitter=0)
        has_user = False
        while True:
            if not has_user:
                self._may_have_user = True
                await call("create the user", lambda: self.hub.create_user(user))

            self._may_have_server = True
            started = await call("start the server", lambda: self.hub.start_server(user, name, self.options))
            has_user = started is not None
            if started:
                # If a lost record had started it before, it runs with the token of that start.
                self.server = self.server.updated(token=started.options.get("token") or self.server.token)
                end = await call("follow the start", lambda: self.relay.follow(self.retry_budget))
                if end is ProgressEnd.READY:
                    return

                # The hub was restarted, or is being stopped: ask it for the server's state.
                current = await call("read the server", lambda: self.hub.server(user, name))
                if end is ProgressEnd.READY_UNCONFIRMED and current and current.ready:
                    return
                has_user = current is not None
                if not current or not (current.ready or current.pending == "spawn"):
                    self.relay.reset()
                    lost = HubUnavailable("it no longer knows this start")
                    await self.retry_budget.record_failure("start the server", lost)

            await pauses.sleep()

    # 4. The end

    async def _finish_ready(self) -> None:
        """Record and announce that the server is ready, in one write."""
        now = clock.now()
        max_age = self.settings.max_age_seconds
        self.server = self.server.updated(
            state=ServerState.READY, ready_at=now, expires=now + max_age if max_age else None, queue=None
        )
        ready = Event(phase=Phase.LAUNCHING, message=f"Server ready at {self.server.url}\n")
        events = self.relay.pending or [ready]
        self.relay.pending = []

        # `changed` tells the launch to read the record, which differs from the answer that it got.
        fields: dict[str, object] = {"expires": self.server.expires}
        if self.is_adopted or self.server.token != self._announced_token:
            fields["changed"] = True
        events[-1] = events[-1].updated(terminal=True, state=ServerState.READY, **fields)
        self._ready_events = events
        await self._write_ready(now)

    async def _write_ready(self, ready_at: float) -> None:
        await self.record.write(*self._ready_events, body=self.server, release=True)
        STARTS.labels("ready").inc()
        DURATION.labels("ready").observe(ready_at - self.began_at)

    async def _settle_ready(self) -> None:
        """Write that the server is ready unless Redis has that: a record that is only released is adopted by nobody."""
        with contextlib.suppress(Fenced):
            await self.record.restore()  # repeats a write whose reply was lost; if that was this one, the claim ends
            if self.record.is_claimed:
                await self._write_ready(clock.now())

    async def fail(self, error: BinderyError) -> None:
        """Record and announce a failure at once, then remove user and server from the hub; the reaper removes the rest.

        A start whose `ready` event was written, or may have been, stays ready: followers must not see two outcomes.
        """
        if self.server.state is ServerState.READY:
            await self._settle_ready()
            return

        self.server = self.server.updated(state=ServerState.FAILED, error=error.problem, queue=None)
        event = Event(
            phase=Phase.FAILED,
            message=f"{error.detail}\n",
            state=ServerState.FAILED,
            error=error.problem,
            terminal=True,
        )

        with contextlib.suppress(Fenced):
            await self.record.write(*self.relay.pending, event, body=self.server, final=True)
            STARTS.labels(error.code).inc()
            log.warning("start_failed", server_id=self.server.server_id, code=error.code, detail=error.detail)

            is_removed = not self._may_have_user or await remove_from_hub(
                self.hub, self.server.user, self.server.server_name, seconds=self.settings.cleanup_timeout_seconds
            )
            # A server that may still run keeps its seat until the reaper finds it gone.
            if is_removed or not self._may_have_server:
                await self.seats.release(self.server.server_id)
