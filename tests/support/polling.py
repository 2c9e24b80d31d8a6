"""Waiting for a condition, at most for some seconds: `until` in a test's event loop, `eventually` in plain functions.

For what announces its change there are better ways: an `asyncio.Event`, a queue, a line of output.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from services.common.service.tasks import sleep_unless_cancelled


async def until(condition: Callable[..., object], description: str = "its condition", *, seconds: float = 30.0) -> None:
    """Wait until `condition`, which may be a coroutine function, returns something true; fail with `what` otherwise.

    A deadline is a cancel, and redis-py swallows one now and then: a plain sleep would then poll for ever.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = condition()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return
                await sleep_unless_cancelled(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {description}") from None


def eventually(condition: Callable[[], Any], description: str, seconds: float = 30.0) -> Any:
    """Wait until `condition` returns something true, and return that; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {description}"
        tick.wait(0.02)
    return answer
