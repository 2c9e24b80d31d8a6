"""Growing waits between the attempts of one piece of work.

stamina, by contrast, retries a call by its exception alone. The loops here also tell a follower what they wait for,
start over after progress, obey a peer's `Retry-After`, and must notice a cancel that redis-py swallowed.
"""

import asyncio
import random

from services.common.service.tasks import sleep_unless_cancelled


class Backoff:
    """Waits that double up to a longest one, each varied by `jitter`, within a patience that may be limited.

        backoff = Backoff(first_seconds=0.1, longest_seconds=2.0, patience_seconds=60.0)
        while True:
            try:
                return await call()
            except Unavailable:
                if not await backoff.sleep():
                    raise

    Jitter keeps the processes of an installation from retrying in step: a wait is multiplied by a random factor
    between `1 - jitter` and `1 + jitter`. The patience counts from construction, or from the last `restart`.
    """

    def __init__(
        self,
        *,
        first_seconds: float,
        longest_seconds: float,
        patience_seconds: float = float("inf"),
        jitter: float = 0.3,
    ) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._patience_seconds = patience_seconds
        self._jitter = jitter
        self.restart()

    def restart(self) -> None:
        """Begin again with the first wait and the whole patience."""
        self._wait_seconds = self._first_seconds
        self._started = asyncio.get_running_loop().time()

    def restart_after_run(self, run_seconds: float) -> None:
        """Begin again if a run lasted longer than the longest wait: its end is unrelated to the failures before it."""
        if run_seconds > self._longest_seconds:
            self.restart()

    @property
    def is_exhausted(self) -> bool:
        """Whether the next wait, jitter apart, would end after the patience does."""
        elapsed_seconds = asyncio.get_running_loop().time() - self._started
        return elapsed_seconds + self._wait_seconds > self._patience_seconds

    def next_wait_seconds(self) -> float:
        """Return the next wait with its jitter, and double the one after it."""
        wait_seconds = self._wait_seconds
        self._wait_seconds = min(self._longest_seconds, wait_seconds * 2)
        return wait_seconds * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - jitter, not a secret

    async def sleep(self) -> bool:
        """Sleep for the next wait and return True; return False at once if the patience is exhausted."""
        if self.is_exhausted:
            return False
        await sleep_unless_cancelled(self.next_wait_seconds())
        return True
