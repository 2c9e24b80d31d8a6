"""The faults of a soak: each few seconds a random part is killed, stopped for a while, or ended and started again."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from deploy.local.components import component_name
from tests.load.soak_stack import PAIRS, SoakStack

EVERY_SECONDS = 8.0
STOPPED_SECONDS = (1.0, 10.0)
"""Up to more than the lease of 6 s, so that what a stopped process owns is taken over."""
REDIS_STOPPED_SECONDS = (1.0, 8.0)
DOWN_SECONDS = 2.0
WEIGHTS = {"killed": 4, "stopped": 3, "ended and started": 2, "stopped Redis": 1}


class FaultMaker:
    """Does one thing after the other to a random part.

    The second of each pair is never killed or ended, only stopped: it lives from the beginning to the end, and shows
    what grows in a process.
    """

    def __init__(self, stack: SoakStack, random_numbers: random.Random) -> None:
        self._stack = stack
        self._random = random_numbers
        self.count: Counter[tuple[str, str]] = Counter()

    async def run(self, seconds: float) -> None:
        """Make faults for so long; return when the last one is over."""
        until = time.monotonic() + seconds
        kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "killed": self._kill,
            "stopped": self._stop,
            "ended and started": self._end,
            "stopped Redis": self._stop_redis,
        }
        while (began_at := time.monotonic()) < until - EVERY_SECONDS:
            (kind,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            part = await kinds[kind]()
            self.count[kind, part] += 1
            await asyncio.sleep(max(0.0, began_at + EVERY_SECONDS - time.monotonic()))

    def _first_of_a_pair(self) -> str:
        return component_name(self._random.choice(PAIRS), 1)

    async def _kill(self) -> str:
        return await self._replace(self._first_of_a_pair(), signal.SIGKILL)

    async def _end(self) -> str:
        return await self._replace(self._first_of_a_pair(), signal.SIGTERM)

    async def _replace(self, part: str, number: signal.Signals) -> str:
        self._stack.starting.add(part)
        self._stack.processes[part].send_signal(number)
        await asyncio.sleep(DOWN_SECONDS)
        await self._stack.start_again(part)
        self._stack.starting.discard(part)
        return part

    async def _stop(self) -> str:
        kind = self._random.choice(PAIRS)
        part = component_name(kind, self._random.choice((1, 2)))
        return await self._pause(part, self._random.uniform(*STOPPED_SECONDS))

    async def _stop_redis(self) -> str:
        return await self._pause("redis", self._random.uniform(*REDIS_STOPPED_SECONDS))

    async def _pause(self, part: str, seconds: float) -> str:
        process = self._stack.processes[part]
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        return part
