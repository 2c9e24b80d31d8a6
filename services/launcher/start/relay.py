"""What the followers of one start read: the hub's progress, each step once, and sentences of our own."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from enum import Enum, auto

from services.common.models import Event, Phase, Server
from services.common.records.records import OwnedRecord
from services.common.redis.client import retry_while_unavailable
from services.common.streams.entries import Entry
from services.launcher.hub.client import Hub, Progress
from services.launcher.hub.failure_patterns import Diagnosis, Verdict
from services.launcher.hub.retry_budget import Deadline, RetryBudget
from services.launcher.settings import LauncherSettings

QUIET_SECONDS = 0.25
"""Progress is flushed when the hub has been quiet for this long, so that a quick start is one write."""
HUB_FIRST_SECONDS = 10.0
"""How much longer than the spawner's deadline ours is: the spawner can say why."""


class Ended(Enum):
    """How the hub's progress stream ended."""

    READY = auto()
    UNSURE = auto()
    """It says that the server is ready, as a hub also may that is being stopped."""
    WITHOUT_A_WORD = auto()


class Relay:
    """Follows the start at the hub, and tells what is new; `body` gives the server as it is now.

    A hub that is asked again tells each step again from the first. What was told already is not told twice, and gives
    the start no more time than it did at first.
    """

    def __init__(self, settings: LauncherSettings, hub: Hub, claimed: OwnedRecord, body: Callable[[], Server]) -> None:
        self._settings, self._hub, self._claimed, self._body = settings, hub, claimed, body
        self._told: dict[str, list[float]] = defaultdict(list)
        self.signs = Diagnosis()
        self._is_understood = False
        """Whether the spawner has said anything by which it can be told how the start goes."""
        self.pending: list[Event] = []

    async def recall(self) -> None:
        """Of a start that another process began: what its followers have read, and when."""
        records = self._claimed.records
        key = records.keys.events(self._claimed.topic)
        for raw in await retry_while_unavailable(lambda: records.redis.xrange(key), seconds=records.patience_seconds):
            entry = Entry.stored(raw)
            for event in entry.events:
                self._told[str(event.get("message") or "")].append(entry.key[0] / 1000)

    def begin_anew(self) -> None:
        """The hub knows nothing of what was told: each step that it tells from now on is a new one."""
        self._told.clear()

    async def follow(self, deadline: Deadline, patience: RetryBudget) -> Ended:
        """Relay the hub's progress until the stream ends. Raises `BinderyError` when the start has failed."""
        server = self._body()
        again = {message: deque(times) for message, times in self._told.items()}
        async with contextlib.aclosing(self._hub.progress(server.user, server.server_name)) as stream:
            upcoming: asyncio.Task[Progress] | None = None
            try:
                while True:
                    upcoming = upcoming or asyncio.ensure_future(_next(stream))
                    done, _ = await asyncio.wait({upcoming}, timeout=QUIET_SECONDS if self.pending else None)
                    if not done:
                        await self.flush()
                        continue
                    progress, upcoming = upcoming.result(), None
                    if progress.failed:
                        raise self.signs.failure(progress.message)
                    if progress.ready and not progress.is_sure:
                        return Ended.UNSURE
                    since = self._step(progress.message, again)
                    if progress.ready:
                        return Ended.READY
                    patience.heard()
                    self._heed(progress.message, deadline, since)
            except StopAsyncIteration:
                return Ended.WITHOUT_A_WORD
            finally:
                if upcoming:
                    upcoming.cancel()
                    await asyncio.gather(upcoming, return_exceptions=True)

    def _step(self, message: str, again: dict[str, deque[float]]) -> float:
        """Have a step told, unless it was; when that was first done."""
        line, now = f"{message.rstrip()}\n", time.time()
        if known := again.get(line):
            return known.popleft()
        if message:
            self.pending.append(Event(phase=Phase.LAUNCHING, message=line))
            self._told[line].append(now)
        return now

    def _heed(self, message: str, deadline: Deadline, since: float) -> None:
        """What the progress says gives the start more time, or ends it by a `BinderyError`."""
        sign = self.signs.read(message)
        if sign is None:
            if not self._is_understood:
                deadline.lend(self._settings.server_start_untold_seconds, since)
            return
        if not self._is_understood:
            self._is_understood = True
            deadline.take_back(self._settings.server_start_timeout_seconds + HUB_FIRST_SECONDS, since)
        if sign.means is Verdict.MOVES:
            # The spawner begins to wait for an answer after the container runs, and is to end it first.
            deadline.extend(self._settings.server_start_timeout_seconds + HUB_FIRST_SECONDS, since)
        elif sign.means is Verdict.PULLS and not self.signs.cause:
            deadline.extend(self._settings.image_pull_timeout_seconds, since)

    async def tell(self, sentence: str) -> None:
        """Tell a sentence of our own, at once."""
        self.pending.append(Event(phase=Phase.LAUNCHING, message=f"{sentence}\n"))
        await self.flush()

    async def flush(self) -> None:
        """Write what is still to be told."""
        events, self.pending = self.pending, []
        if events:
            await self._claimed.write(*events, body=self._body())


async def _next(stream: AsyncGenerator[Progress, None]) -> Progress:
    return await stream.__anext__()
