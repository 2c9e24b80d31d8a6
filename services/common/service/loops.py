"""The endless work of a process: loops that no error ends, and tasks whose end ends the process.

A loop that ends unnoticed is the worst of failures: the process goes on answering requests, and does nothing else.
Therefore an error never ends a loop, and a background task that ends in spite of that ends its process, so that its
supervisor starts another one.
"""

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

from prometheus_client import Counter

from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger
from services.common.service.tasks import cancel_and_wait, sleep_unless_cancelled

log = get_logger(__name__)

LOOP_FAILURES = Counter("bindery_loop_failures_total", "Steps of background loops that failed, by loop", ["loop"])

Step = Callable[[], Awaitable[object]]
"""One round of a loop."""

Errors = tuple[type[Exception], ...]


RETRY_MAX_SECONDS = 2.0
"""Longest pause of a loop after failures, unless its usual pause is longer."""


class UnexpectedEnd(Exception):
    """A background task ended before it was asked to."""


@dataclass(eq=False)
class LoopState:
    """One loop, as `/livez` sees it."""

    name: str
    step_began: float | None = None
    """When the present step began, by the monotonic clock; None while the loop waits."""


@dataclass(eq=False, kw_only=True)
class BackgroundState:
    """The background work of this process: its loops, and whether the process is about to end."""

    loops: set[LoopState] = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process was asked to end, by a signal: tasks that serve only until then may end."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a background task has ended before it was asked to: the process must end."""
    end_reason: str = ""

    def on_end(self, name: str, error: BaseException | None) -> None:
        """Record and log that a task has ended before it was asked to."""
        reason = f"{type(error).__name__}: {error}" if error else "it returned"
        log.error("part_ended", part=name, error=reason, exc_info=error)
        self.end_reason = self.end_reason or f"{name} has ended: {reason}"
        self.ended.set()

    def stalled_loops(self, seconds: float) -> list[str]:
        """Return the loops whose present step has lasted for longer than `seconds`."""
        now = time.monotonic()
        return sorted(
            loop.name for loop in self.loops if loop.step_began is not None and now - loop.step_began > seconds
        )


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BackgroundState] = weakref.WeakKeyDictionary()


def background_state() -> BackgroundState:
    """Return the state of the background work in the running event loop: a process has one."""
    return _states.setdefault(asyncio.get_running_loop(), BackgroundState())


async def run_forever(
    step: Step,
    *,
    name: str,
    wait: float | Step = 0.0,
    at_once: bool = False,
    unavailable: Errors = (),
    retry_max_seconds: float | None = None,
    is_session: bool = False,
) -> NoReturn:
    """Wait, then run `step`, again and again until cancelled, whatever exception the step raises.

    `wait` is a time in seconds, or awaited: the loop is idle meanwhile. With `at_once` the first step comes without it.
    A step that fails is counted, logged and repeated without `wait`, after pauses that grow to `retry_max_seconds`: by
    default 2 s, or `wait` if that is longer. `unavailable` has the errors of a peer that is away: they are logged
    without traceback.

    A step with `is_session` holds something until that breaks, and may last for ever; any other step that lasts long
    makes `/livez` fail.
    """
    longest_seconds = retry_max_seconds or max(RETRY_MAX_SECONDS, wait if isinstance(wait, int | float) else 0.0)
    backoff = Backoff(first_seconds=min(0.1, longest_seconds), longest_seconds=longest_seconds)
    state = LoopState(name)
    loops = background_state().loops
    loops.add(state)

    if task := asyncio.current_task():
        task.set_name(name)

    is_due = at_once
    failures = 0
    try:
        while True:
            if not is_due:
                await _pause(wait)
            await sleep_unless_cancelled(0)

            began = time.monotonic()
            state.step_began = None if is_session else began
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - no error ends a loop
                failures += 1
                _report_failure(name, error, failures=failures, is_expected=isinstance(error, unavailable))
            else:
                if failures:
                    log.info("loop_recovered", loop=name, failures=failures)
                failures = 0
            finally:
                state.step_began = None

            is_due = failures > 0
            if is_due:
                backoff.restart_after_run(time.monotonic() - began)
                await backoff.sleep()
            else:
                backoff.restart()
    finally:
        loops.discard(state)


async def _pause(wait: float | Step) -> None:
    if isinstance(wait, int | float):
        await sleep_unless_cancelled(wait)
    else:
        await wait()


def _report_failure(name: str, error: Exception, *, failures: int, is_expected: bool) -> None:
    """Count a failed step, and log the first one in a row, the second, the fourth, the eighth and so on.

    The first one has a traceback if it is unexpected.
    """
    LOOP_FAILURES.labels(name).inc()
    if failures.bit_count() != 1:
        return

    text = f"{type(error).__name__}: {error}"
    if is_expected or failures > 1:
        log.warning("loop_failed", loop=name, error=text, failures=failures)
    else:
        log.error("loop_failed", loop=name, error=text, failures=failures, exc_info=error)


@contextlib.asynccontextmanager
async def background_tasks(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run coroutines for as long as the block. If one ends before the block does, the process must end.

    The block goes on until the process has handed over what it owns: `BackgroundState.ended` tells the server to shut
    down. Raise `UnexpectedEnd` at the end of the block, if that has nothing worse to raise.
    """
    state = background_state()
    is_over = False
    unexpected: list[str] = []

    def on_done(task: asyncio.Task[object]) -> None:
        if not is_over and not state.stopping.is_set():
            unexpected.append(task.get_name())
            state.on_end(task.get_name(), None if task.cancelled() else task.exception())

    tasks = [asyncio.create_task(coroutine, name=getattr(coroutine, "__qualname__", None)) for coroutine in work]
    for task in tasks:
        task.add_done_callback(on_done)
    try:
        yield
    finally:
        is_over = True
        await cancel_and_wait(*tasks)
    if unexpected:
        raise UnexpectedEnd(", ".join(unexpected))
