"""The faults of a soak: each few seconds a random part is killed, stopped for a while, or ended and started again."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from deploy.local.components import component_name
from tests.load.soak_stack import PAIRS, STOPPED_SECONDS_MAX, SoakStack

EVERY_SECONDS = 8.0
"""Time from one fault to the next, on the average over the whole soak: pauses without faults are made up for."""
GAP_SECONDS = 4.0
"""Shortest time between two faults; they may overlap, but not at the same pair."""
STOPPED_SECONDS = (1.0, STOPPED_SECONDS_MAX)
"""Up to more than the lease of 6 s, so that what a stopped process owns is taken over."""
REDIS_STOPPED_SECONDS = (1.0, 8.0)
DOWN_SECONDS = 2.0
REDIS = "redis"
STOPS = {"stopped": 3, "stopped Redis": 1}
REPLACEMENTS = {"killed": 4, "ended and started": 2}


class FaultMaker:
    """Does one thing after the other to a random part.

    The second of each pair is never killed or ended, only stopped: it lives from the beginning to the end. The first
    one is killed and ended again and again, but not shortly before a sample.
    """

    def __init__(self, stack: SoakStack, random_numbers: random.Random) -> None:
        self._stack = stack
        self._random = random_numbers
        self._began_at = 0.0
        self._ended_at = 0.0
        self._begun = 0
        self._busy: set[str] = set()
        """The pairs of which one is down or stopped."""
        self.count: Counter[tuple[str, str]] = Counter()

    @property
    def mean_seconds(self) -> float:
        """The time from one fault to the next on the average, from the first to the end of the last run."""
        return (self._ended_at - self._began_at) / max(1, self.count.total())

    async def run(self, over: asyncio.Event, *, replace_seconds: float) -> None:
        """Make faults until `over` is set, and return when the last one has ended.

        After `replace_seconds` parts are only stopped.
        """
        began_at = time.monotonic()
        self._began_at = self._began_at or began_at
        async with asyncio.TaskGroup() as faults:
            while not over.is_set():
                weights = STOPS | (REPLACEMENTS if time.monotonic() < began_at + replace_seconds else {})
                (kind,) = self._random.choices(list(weights), list(weights.values()))
                if pairs := [pair for pair in self._pairs_of(kind) if pair not in self._busy]:
                    faults.create_task(self._make(kind, self._random.choice(pairs)))
                    self._begun += 1

                due_at = self._began_at + EVERY_SECONDS * self._begun
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(GAP_SECONDS, due_at - time.monotonic())):
                        await over.wait()
        self._ended_at = time.monotonic()

    def _pairs_of(self, kind: str) -> tuple[str, ...]:
        return (REDIS,) if kind == "stopped Redis" else PAIRS

    async def _make(self, kind: str, pair: str) -> None:
        faults: dict[str, Callable[[str], Awaitable[str]]] = {
            "killed": self._kill,
            "stopped": self._stop,
            "ended and started": self._end,
            "stopped Redis": self._stop_redis,
        }
        self._busy.add(pair)
        try:
            part = await faults[kind](pair)
        finally:
            self._busy.discard(pair)
        self.count[kind, part] += 1

    async def _kill(self, pair: str) -> str:
        return await self._replace(component_name(pair, 1), signal.SIGKILL)

    async def _end(self, pair: str) -> str:
        return await self._replace(component_name(pair, 1), signal.SIGTERM)

    async def _replace(self, part: str, number: signal.Signals) -> str:
        self._stack.starting.add(part)
        self._stack.processes[part].send_signal(number)
        await asyncio.sleep(DOWN_SECONDS)
        await self._stack.start_again(part)
        self._stack.starting.discard(part)
        return part

    async def _stop(self, pair: str) -> str:
        part = component_name(pair, self._random.choice((1, 2)))
        return await self._pause(part, self._random.uniform(*STOPPED_SECONDS))

    async def _stop_redis(self, _: str) -> str:
        return await self._pause(REDIS, self._random.uniform(*REDIS_STOPPED_SECONDS))

    async def _pause(self, part: str, seconds: float) -> str:
        process = self._stack.processes[part]
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        return part
