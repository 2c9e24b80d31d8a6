"""Cancelling tasks for certain, and racing work against an event."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from prometheus_client import Counter

from services.common.service.logging import get_logger

log = get_logger(__name__)

CANCELS_IGNORED = Counter("bindery_cancels_ignored_total", "Tasks that were left, as they did not end when cancelled")

T = TypeVar("T")

CANCEL_AGAIN_SECONDS = 1.0
"""How long a cancelled task may take before it is cancelled again."""
CANCEL_WITHIN_SECONDS = 10.0
"""How long a cancelled task is waited for, unless a setting says otherwise (`cancel_within_seconds`)."""


class Interrupted(Exception):
    """An event was set before the work that it interrupts was done."""


def is_cancelled() -> bool:
    """Return whether this task itself was asked to end: something that it awaits may be cancelled without that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def sleep_unless_cancelled(seconds: float) -> None:
    """Sleep, unless this task has been cancelled already: a cancel that a library swallowed takes effect here.

    redis-py swallows one now and then, when the cancel meets the end of a timeout of its own.
    """
    if is_cancelled():
        raise asyncio.CancelledError
    await asyncio.sleep(seconds)


async def wait_and_clear(event: asyncio.Event, *, seconds: float) -> None:
    """Wait until an event is set, for `seconds` at most, and clear it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()


async def cancel_and_wait(
    *tasks: asyncio.Task[Any],
    again_seconds: float = CANCEL_AGAIN_SECONDS,
    within_seconds: float = CANCEL_WITHIN_SECONDS,
) -> None:
    """Cancel tasks and wait for their ends; their results and exceptions stay with them, and are not raised.

    A client library may swallow a cancel that comes while it connects, so the cancel is repeated after `again_seconds`.
    A task that goes on for `within_seconds` all the same is logged, counted and left: it must not hold its caller. If
    the caller itself is cancelled, the tasks are cancelled once more at once, and `CancelledError` is raised at the end
    of the wait.
    """
    ends_at = time.monotonic() + within_seconds
    pending = {task for task in tasks if not task.done()}
    is_caller_cancelled = False
    while pending and (remaining := ends_at - time.monotonic()) > 0:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=min(again_seconds, remaining))
        except asyncio.CancelledError:
            is_caller_cancelled = True
        pending = {task for task in pending if not task.done()}

    for task in pending:
        CANCELS_IGNORED.inc()
        log.error("cancel_ignored", task=task.get_name(), seconds=within_seconds)
    for task in tasks:
        task.add_done_callback(_retrieve_exception)
    if is_caller_cancelled:
        raise asyncio.CancelledError


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Read a task's exception, so that asyncio does not log it as lost."""
    if not task.cancelled():
        task.exception()


async def run_all(*work: Coroutine[Any, Any, object]) -> None:
    """Run coroutines at the same time. If one fails, cancel the others, wait for their ends, and raise its error."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_and_wait(*tasks)


async def run_until(
    event: asyncio.Event,
    work: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    again_seconds: float = CANCEL_AGAIN_SECONDS,
    within_seconds: float = CANCEL_WITHIN_SECONDS,
    drop_late: bool = False,
) -> T:
    """Run `work` to its end and return its result, or cancel it when `event` is set.

    Work that was done before it noticed the cancel has won: its result is returned, or its exception raised; with
    `drop_late`, only if it was done before the event interrupted it. Nothing runs on after this returns or raises, also
    if the caller is cancelled, except work that ignores cancels for `within_seconds`: that has lost. `name` is the
    task's; after `again_seconds` it is cancelled again.

    Raise `Interrupted` if the event came first.
    """
    task = asyncio.create_task(work, name=name)
    interrupt = asyncio.create_task(event.wait(), name=f"interrupt {task.get_name()}")
    is_late = True
    try:
        await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
        is_late = not task.done()
    finally:
        await cancel_and_wait(task, interrupt, again_seconds=again_seconds, within_seconds=within_seconds)

    if not task.done() or task.cancelled() or (drop_late and is_late):
        raise Interrupted
    return task.result()
