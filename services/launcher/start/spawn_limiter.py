"""How many starts this process has under way at the hub: its share of what all launchers may have there at once."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from prometheus_client import Gauge

from services.common.context import ProcessContext
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

PENDING = Gauge("bindery_hub_spawns_pending", "Starts that this launcher has under way at the hub")

MOMENT_SECONDS = 1.0
"""A wait that is shorter is not worth a word."""

Told = Callable[[], Awaitable[None]]

LAUNCHER_JOINED = "launchers"
"""What a launcher that begins says on the launchers' channel."""


class SpawnLimiter:
    """First come, first served. What is beyond the share, the hub answers with 429, which is waited out."""

    def __init__(self, context: ProcessContext, settings: LauncherSettings) -> None:
        self._context, self._most = context, settings.hub_concurrent_spawns
        self._look_seconds = settings.lease_renew_seconds
        self._launchers = 1
        self._pending = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._joined = asyncio.Event()

    @property
    def _is_full(self) -> bool:
        return bool(self._most) and self._pending >= max(1, self._most // self._launchers)

    @contextlib.asynccontextmanager
    async def under_way(self, *, is_already: bool, on_wait: Told, on_long_wait: Told) -> AsyncIterator[None]:
        """For the length of one start: waits until it may begin, unless the hub may have begun with it already.

        `on_wait` is called first where it has to wait, and `on_long_wait` when that takes longer than a moment.
        """
        if not is_already and (self._is_full or self._waiting):
            await self._turn(on_wait, on_long_wait)
        self._move(+1)
        try:
            yield
        finally:
            self._move(-1)
            self._let_in()

    async def _turn(self, on_wait: Told, on_long_wait: Told) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await on_wait()
            if not (await asyncio.wait({turn}, timeout=MOMENT_SECONDS))[0]:
                await on_long_wait()
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was let in at the same moment
                self._move(-1)
            turn.cancel()
            self._let_in()
            raise
        self._move(-1)  # `_let_in` kept the place

    def _move(self, by: int) -> None:
        self._pending += by
        PENDING.set(self._pending)

    def _let_in(self) -> None:
        while self._waiting and not self._is_full:
            turn = self._waiting.popleft()
            if not turn.done():
                self._move(+1)
                turn.set_result(None)

    def heard(self) -> None:
        """Another launcher has begun: the share is smaller at once."""
        self._joined.set()

    async def run(self) -> None:
        """Keep the share right as launchers come and go, until cancelled."""
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await self._context.upkeep.publish(self._context.keys.wake("launcher"), LAUNCHER_JOINED)
        while True:
            try:
                with attributed_to("upkeep"):
                    alive = await self._context.upkeep.scard(self._context.keys.processes("launcher"))
                self._launchers = max(1, int(alive))
                self._let_in()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="spawns", error=str(error))
            await sleep_unless_cancelled(0)  # redis-py swallows a cancel now and then
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._joined.wait()
            self._joined.clear()
