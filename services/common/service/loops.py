"""The endless work of a process: loops that no error ends, and tasks whose end ends the process.

A loop that ends unnoticed is the worst of failures: the process goes on answering requests, and does nothing else.
Therefore an error never ends a loop, and a background task that ends in spite of that ends its process, so that its
supervisor starts another one.
"""

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from prometheus_client import Counter

from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger
from services.common.service.tasks import CANCEL_AGAIN_SECONDS, cancel_and_wait, is_cancelled, sleep_unless_cancelled

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
    is_session: bool = False
    """Whether a step holds something until that breaks, and so may last for ever."""
    step_began: float | None = field(default=None, init=False)
    """When the present step began, by the monotonic clock; None while the loop waits."""
    step_seconds: float = field(default=0.0, init=False)
    """How long the last step lasted; 0 if the wait before it failed."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Record the beginning of a step, and its end."""
        began = time.monotonic()
        self.step_began = began
        try:
            yield
        finally:
            self.step_began = None
            self.step_seconds = time.monotonic() - began


@dataclass(eq=False, kw_only=True)
class BackgroundState:
    """The background work of this process: its loops, and whether the process is about to end."""

    loops: set[LoopState] = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process was asked to end, by a signal: tasks that serve only until then may end."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a background task has ended before it was asked to: the process must end."""
    end_reason: str = ""
    start_problem: str = ""
    """Why this process, which listens already, has not started yet: a sentence for operators; empty once it has."""
    start_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the start has ended, well or not; never in a process that listens only after its start."""

    def on_end(self, task: asyncio.Task[Any]) -> None:
        """Record and log that a task has ended before it was asked to."""
        error = None if task.cancelled() else task.exception()
        reason = "it was cancelled" if task.cancelled() else "it returned"
        if error:
            reason = f"{type(error).__name__}: {error}"

        log.error("part_ended", part=task.get_name(), error=reason, exc_info=error)
        self.end_reason = self.end_reason or f"{task.get_name()} has ended: {reason}"
        self.ended.set()

    def stalled_loops(self, seconds: float) -> list[str]:
        """Return the loops whose present step has lasted for longer than `seconds`."""
        now = time.monotonic()
        return sorted(
            loop.name
            for loop in self.loops
            if not loop.is_session and loop.step_began is not None and now - loop.step_began > seconds
        )


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BackgroundState] = weakref.WeakKeyDictionary()


def background_state() -> BackgroundState:
    """Return the state of the background work in the running event loop: a process has one."""
    loop = asyncio.get_running_loop()
    return _states.get(loop) or _states.setdefault(loop, BackgroundState())


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
    """Wait, then run `step`, again and again until cancelled, whatever exception the one or the other raises.

    `wait` is a time in seconds, or awaited: the loop is idle meanwhile. With `at_once` the first step comes without it.
    A step that fails is counted, logged and repeated without `wait`, after pauses that grow to `retry_max_seconds`: by
    default 2 s, or `wait` if that is longer. `unavailable` has the errors of a peer that is away: they are logged
    without traceback.

    A step with `is_session` holds something until that breaks, and may last for ever; any other step that lasts long
    makes `/livez` fail.
    """
    longest_seconds = retry_max_seconds or max(RETRY_MAX_SECONDS, wait if isinstance(wait, int | float) else 0.0)
    backoff = Backoff(first_seconds=min(0.1, longest_seconds), longest_seconds=longest_seconds)
    state = LoopState(name, is_session=is_session)
    loops = background_state().loops
    loops.add(state)

    if task := asyncio.current_task():
        task.set_name(name)

    is_due = at_once
    failures = 0
    try:
        while True:
            error = await _run_round(step, state, wait=0.0 if is_due else wait)
            is_due = error is not None

            if error is None:
                if failures:
                    log.info("loop_recovered", loop=name, failures=failures)
                failures = 0
                backoff.restart()
            else:
                failures += 1
                _report_failure(name, error, failures=failures, is_expected=isinstance(error, unavailable))
                backoff.restart_after_run(state.step_seconds)
                await backoff.sleep()
    finally:
        loops.discard(state)


async def _run_round(step: Step, state: LoopState, *, wait: float | Step) -> BaseException | None:
    """Wait, then run `step`, and return the exception of either. Raise `CancelledError` if this task is cancelled."""
    state.step_seconds = 0.0
    try:
        await _pause(wait)
        await sleep_unless_cancelled(
            0
        )  # a cancel that the wait, or the step before it, has swallowed takes effect here
        with state.running():
            await step()
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        return error  # not of this task: the step has awaited something that was cancelled
    except Exception as error:  # noqa: BLE001 - no error ends a loop
        return error
    return None


async def _pause(wait: float | Step) -> None:
    if isinstance(wait, int | float):
        await sleep_unless_cancelled(wait)
    else:
        await wait()


def _report_failure(name: str, error: BaseException, *, failures: int, is_expected: bool) -> None:
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
async def background_tasks(
    *work: Coroutine[Any, Any, object], again_seconds: float = CANCEL_AGAIN_SECONDS
) -> AsyncIterator[None]:
    """Run coroutines for as long as the block. If one ends before the block does, the process must end.

    The block goes on until the process has handed over what it owns: `BackgroundState.ended` tells the server to shut
    down. At the end of the block the tasks are cancelled, and once more after `again_seconds`. Raise `UnexpectedEnd`
    then, if the block has nothing worse to raise.
    """
    state = background_state()
    is_over = False
    unexpected: list[str] = []

    def on_done(task: asyncio.Task[object]) -> None:
        if not is_over and not state.stopping.is_set():
            unexpected.append(task.get_name())
            state.on_end(task)

    tasks = [asyncio.create_task(coroutine, name=getattr(coroutine, "__qualname__", None)) for coroutine in work]
    for task in tasks:
        task.add_done_callback(on_done)
    try:
        yield
    finally:
        is_over = True
        await cancel_and_wait(*tasks, again_seconds=again_seconds)
    if unexpected:
        raise UnexpectedEnd(", ".join(unexpected))
