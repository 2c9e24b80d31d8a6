"""Cancelling tasks for certain, and racing work against an event."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_AGAIN_SECONDS = 1.0
"""How long a cancelled task may take before it is cancelled again."""


class Interrupted(Exception):
    """An event was set before the work that it interrupts was done."""


async def sleep_unless_cancelled(seconds: float) -> None:
    """Sleep, unless this task has been cancelled already: a cancel that a library swallowed takes effect here.

    redis-py swallows one now and then, when the cancel meets the end of a timeout of its own.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    await asyncio.sleep(seconds)


async def cancel_and_wait(*tasks: asyncio.Task[Any], again_seconds: float = CANCEL_AGAIN_SECONDS) -> None:
    """Cancel tasks and return when all are done; their results and exceptions stay with them, and are not raised.

    A client library may swallow a cancel that comes while it connects, so the cancel is repeated. If the caller itself
    is cancelled, the tasks are cancelled once more at once, and `CancelledError` is raised when all of them are done.
    """
    pending = {task for task in tasks if not task.done()}
    is_cancelled = False
    while pending:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=again_seconds)
        except asyncio.CancelledError:
            is_cancelled = True
        pending = {task for task in pending if not task.done()}

    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it as lost
    if is_cancelled:
        raise asyncio.CancelledError


async def run_until(
    event: asyncio.Event,
    work: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    again_seconds: float = CANCEL_AGAIN_SECONDS,
    drop_late: bool = False,
) -> T:
    """Run `work` to its end and return its result, or cancel it when `event` is set.

    Work that was done before it noticed the cancel has won: its result is returned, or its exception raised; with
    `drop_late`, only if it was done before the event interrupted it. Nothing runs on after this returns or raises, also
    if the caller is cancelled. `name` is the task's; after `again_seconds` it is cancelled again.

    Raise `Interrupted` if the event came first.
    """
    task = asyncio.create_task(work, name=name)
    interrupt = asyncio.create_task(event.wait(), name=f"interrupt {task.get_name()}")
    is_late = True
    try:
        await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
        is_late = not task.done()
    finally:
        await cancel_and_wait(task, interrupt, again_seconds=again_seconds)

    if task.cancelled() or (drop_late and is_late):
        raise Interrupted
    return task.result()
