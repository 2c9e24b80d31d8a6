"""Pausing in loops that run until they are cancelled."""

import asyncio
import time


async def sleep_unless_cancelled(seconds: float) -> None:
    """Sleep, unless this task has been cancelled already: a cancel that a library below swallowed takes effect here.

    redis-py does that now and then, when the cancel meets the end of a timeout of its own.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    await asyncio.sleep(seconds)


class Backoff:
    """The waits between the runs of something that is begun again and again: each is twice the one before.

    Behind a run that took longer than the longest wait they begin anew: what ended that has nothing to do with what
    ended those before it.
    """

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first, self._longest = first_seconds, longest_seconds
        self._next = first_seconds
        self._begun = 0.0

    def begin(self) -> None:
        """A run begins."""
        self._begun = time.monotonic()

    def wait_seconds(self) -> float:
        """A run has ended: how long to wait before the next."""
        if time.monotonic() - self._begun > self._longest:
            self._next = self._first
        wait, self._next = self._next, min(self._longest, self._next * 2)
        return wait
