"""Limit on the starts that this launcher has under way at the hub: its share of the limit for all launchers."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from prometheus_client import Gauge

from services.common.context import ProcessContext
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.call_accounting import attributed_to
from services.common.service.loops import run_forever
from services.common.service.tasks import wait_and_clear
from services.launcher.settings import LauncherSettings

PENDING = Gauge("bindery_hub_spawns_pending", "Starts that this launcher has under way at the hub")

LONG_WAIT_SECONDS = 1.0
"""A shorter wait for a turn is not announced."""

LAUNCHER_JOINED = "launchers"
"""Message on the launchers' channel: a launcher has started, so each launcher's share is smaller."""

OnWait = Callable[[], Awaitable[None]]


class SpawnLimiter:
    """Admits starts in the order of their arrival, up to this launcher's share.

    Shares are rounded, so the hub may still have too many starts; it answers those with 429, and they are retried.
    """

    def __init__(self, context: ProcessContext, settings: LauncherSettings) -> None:
        self._context = context
        self._limit = settings.hub_concurrent_spawns
        self._refresh_seconds = settings.lease_renew_seconds
        self._launchers = 1
        self._pending = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._launcher_joined = asyncio.Event()

    @property
    def _is_full(self) -> bool:
        return bool(self._limit) and self._pending >= max(1, self._limit // self._launchers)

    @contextlib.asynccontextmanager
    async def turn(self, *, is_already_pending: bool, on_wait: OnWait, on_long_wait: OnWait) -> AsyncIterator[None]:
        """Count one start as pending while the block runs; wait first until it may begin.

        A start with `is_already_pending` does not wait: the hub may have begun it before. `on_wait` is called before
        a wait, `on_long_wait` when it has lasted `LONG_WAIT_SECONDS`.
        """
        if not is_already_pending and (self._is_full or self._waiting):
            await self._wait_turn(on_wait, on_long_wait)
        self._adjust(+1)
        try:
            yield
        finally:
            self._adjust(-1)
            self._admit_next()

    async def _wait_turn(self, on_wait: OnWait, on_long_wait: OnWait) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)

        try:
            await on_wait()
            done, _ = await asyncio.wait({turn}, timeout=LONG_WAIT_SECONDS)
            if not done:
                await on_long_wait()
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was admitted at the same moment
                self._adjust(-1)
            turn.cancel()
            self._admit_next()
            raise

        self._adjust(-1)  # `_admit_next` has counted it, and the caller counts it again

    def _adjust(self, by: int) -> None:
        self._pending += by
        PENDING.set(self._pending)

    def _admit_next(self) -> None:
        while self._waiting and not self._is_full:
            turn = self._waiting.popleft()
            if not turn.done():
                self._adjust(+1)
                turn.set_result(None)

    def on_launcher_joined(self) -> None:
        """Recompute the share at once: another launcher has started."""
        self._launcher_joined.set()

    async def run(self) -> None:
        """Keep the share right as launchers start and stop, until cancelled."""
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await self._context.lease_redis.publish(self._context.keys.wake("launcher"), LAUNCHER_JOINED)
        await run_forever(
            self._refresh_share,
            name="spawn_limiter",
            wait=partial(wait_and_clear, self._launcher_joined, seconds=self._refresh_seconds),
            at_once=True,
            unavailable=REDIS_UNAVAILABLE,
        )

    async def _refresh_share(self) -> None:
        with attributed_to("upkeep"):
            launchers = await self._context.lease_redis.scard(self._context.keys.processes("launcher"))
        self._launchers = max(1, int(launchers))
        self._admit_next()
