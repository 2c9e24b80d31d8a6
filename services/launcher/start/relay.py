"""Relay of a start's progress from the hub to the start's followers."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from enum import Enum, auto

from services.common.models import Event, Phase, Server
from services.common.records.owned_record import OwnedRecord
from services.common.redis.client import retry_while_unavailable
from services.common.service.clock import clock
from services.common.service.tasks import cancel_and_wait
from services.common.streams.entries import Entry
from services.launcher.hub.client import Hub, Progress
from services.launcher.hub.failure_patterns import Diagnosis, Verdict
from services.launcher.hub.retry_budget import Deadline, RetryBudget
from services.launcher.settings import LauncherSettings

FLUSH_AFTER_SECONDS = 0.25
"""Progress is written once the hub has sent nothing for this long, so that a quick start is one write."""

SPAWNER_FIRST_SECONDS = 10.0
"""How much later our deadline is than the spawner's, because the spawner can say why a start failed."""


class ProgressEnd(Enum):
    """How the hub's progress stream ended."""

    READY = auto()
    READY_UNCONFIRMED = auto()
    """The hub says that the server is ready, but a hub that is being stopped may say so too."""
    WITHOUT_RESULT = auto()


class Relay:
    """Follows a start at the hub and writes each new step, and sentences of the launcher, to the record's stream.

    A hub that is asked again repeats every step from the first. A repeated step is not written again, and it extends
    the deadline no further than it did the first time.
    """

    def __init__(
        self,
        *,
        settings: LauncherSettings,
        hub: Hub,
        record: OwnedRecord,
        deadline: Deadline,
        server: Callable[[], Server],
    ) -> None:
        """Create the relay; `server` returns the server as it is now, which each write stores with the events.

        Steps extend the `deadline`, which is paused while they are written.
        """
        self._settings = settings
        self._hub = hub
        self._record = record
        self._deadline = deadline
        self._server = server
        self._step_times: dict[str, list[float]] = defaultdict(list)
        """For each message, when it was first reported, once for each time that one stream contained it."""
        self._has_known_step = False
        """Whether the spawner has reported a step that a pattern knows."""
        self.diagnosis = Diagnosis()
        self.pending: list[Event] = []
        """Events that are not written yet."""

    async def load_history(self) -> None:
        """Read from the stream which messages followers of an adopted start have received, and when."""
        store = self._record.store
        key = store.keys.events(self._record.topic)
        entries = await retry_while_unavailable(lambda: store.redis.xrange(key), seconds=store.patience_seconds)
        for raw in entries:
            entry = Entry.stored(raw)
            for event in entry.events:
                self._step_times[str(event.get("message") or "")].append(entry.key[0] / 1000)

    def reset(self) -> None:
        """Treat every step from now on as new: the hub has lost this start and begins another one."""
        self._step_times.clear()

    async def follow(self, retry_budget: RetryBudget) -> ProgressEnd:
        """Relay the hub's progress until the stream ends. Raise `BinderyError` if the start has failed."""
        server = self._server()
        repeats = {message: deque(times) for message, times in self._step_times.items()}
        stream = self._hub.progress(server.user, server.server_name)
        upcoming: asyncio.Task[Progress] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(_next(stream))
                done, _ = await asyncio.wait({upcoming}, timeout=FLUSH_AFTER_SECONDS if self.pending else None)
                if not done:
                    await self.flush()
                    continue
                progress = upcoming.result()
                upcoming = None

                if progress.failed:
                    raise self.diagnosis.failure(progress.message)
                if progress.ready and not progress.is_confirmed:
                    return ProgressEnd.READY_UNCONFIRMED
                since = self._add_step(progress.message, repeats)
                if progress.ready:
                    return ProgressEnd.READY

                retry_budget.on_progress()
                self._apply(progress.message, since)
        except StopAsyncIteration:
            return ProgressEnd.WITHOUT_RESULT
        finally:
            try:
                if upcoming:
                    await cancel_and_wait(upcoming, within_seconds=self._record.store.cancel_within_seconds)
            finally:
                if not upcoming or upcoming.done():  # otherwise it is still read, and can't be closed
                    await stream.aclose()

    def _add_step(self, message: str, repeats: dict[str, deque[float]]) -> float:
        """Queue a step to be written unless it was before. Return when it was first reported."""
        line = f"{message.rstrip()}\n"
        earlier = repeats.get(line)
        if earlier:
            return earlier.popleft()

        now = clock.now()
        if message:
            self.pending.append(Event(phase=Phase.LAUNCHING, message=line))
            self._step_times[line].append(now)
        return now

    def _apply(self, message: str, since: float) -> None:
        """Extend the deadline if the message shows progress. Raise `BinderyError` if the start is lost."""
        deadline = self._deadline
        pattern = self.diagnosis.observe(message)
        if pattern is None:
            if not self._has_known_step:
                deadline.extend_while_unknown(self._settings.server_start_untold_seconds, since)
            return

        # The spawner begins to wait for an answer after the container runs, and its deadline must come first.
        answer_seconds = self._settings.server_start_timeout_seconds + SPAWNER_FIRST_SECONDS
        if not self._has_known_step:
            self._has_known_step = True
            deadline.on_known_step(answer_seconds, since)
        if pattern.verdict is Verdict.PROGRESS:
            deadline.extend(answer_seconds, since)
        elif pattern.verdict is Verdict.WAITING and not self.diagnosis.cause:
            deadline.extend(self._settings.image_pull_timeout_seconds, since)

    async def announce(self, sentence: str) -> None:
        """Write a sentence of the launcher at once, after everything that is pending."""
        self.pending.append(Event(phase=Phase.LAUNCHING, message=f"{sentence}\n"))
        await self.flush()

    async def flush(self) -> None:
        """Write the pending events."""
        events = self.pending
        self.pending = []
        if events:
            with self._deadline.paused():
                await self._record.write(*events, body=self._server())


async def _next(stream: AsyncGenerator[Progress, None]) -> Progress:
    return await stream.__anext__()
