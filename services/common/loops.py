"""Pausing in loops that run until they are cancelled."""

import asyncio


async def pause(seconds: float) -> None:
    """Sleep, unless this task has been cancelled already: a cancel that a library below swallowed takes effect here.

    redis-py does that now and then, when the cancel meets the end of a timeout of its own.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    await asyncio.sleep(seconds)
