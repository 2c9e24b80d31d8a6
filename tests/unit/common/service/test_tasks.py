"""Cancelling takes effect, also if a library swallows the cancel; a race against an event has one winner."""

import asyncio
import contextlib
import io

import pytest

from services.common.service.tasks import Interrupted, cancel_and_wait, run_all, run_until, sleep_unless_cancelled
from tests.support.logs import line_of
from tests.support.metrics import sample


async def test_a_swallowed_cancel_takes_effect_at_the_next_pause() -> None:
    has_begun = asyncio.Event()
    turns = 0

    async def loop() -> None:
        nonlocal turns
        while True:
            turns += 1
            with contextlib.suppress(asyncio.CancelledError):  # what a library does that mistakes it for its own
                has_begun.set()
                await asyncio.Event().wait()
            await sleep_unless_cancelled(0)

    task = asyncio.create_task(loop())
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert turns == 1


async def test_cancel_and_wait_cancels_again_until_a_task_obeys() -> None:
    has_begun = asyncio.Event()
    cancels = 0

    async def stubborn() -> None:
        nonlocal cancels
        while cancels < 3:
            try:
                has_begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels += 1

    task = asyncio.create_task(stubborn())
    await has_begun.wait()
    await cancel_and_wait(task, again_seconds=0.01)
    assert (task.done(), cancels) == (True, 3)


async def test_run_all_leaves_nothing_running_after_the_first_error_or_a_cancel() -> None:
    ends: list[str] = []

    async def runs(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append(name)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("the first error")

    with pytest.raises(ValueError, match="the first error"):
        await run_all(runs("a"), fails(), runs("b"))
    assert sorted(ends) == ["a", "b"]

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run_all(runs("c"), runs("d"))
    assert sorted(ends) == ["a", "b", "c", "d"]


async def test_cancel_and_wait_waits_for_the_tasks_even_if_it_is_cancelled_itself() -> None:
    is_cancelled = asyncio.Event()
    may_end = asyncio.Event()

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()
            while not may_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await may_end.wait()

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cancel_and_wait(task))
    await is_cancelled.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    is_waiting = not waiting.done()
    may_end.set()
    assert is_waiting
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.done()


async def test_cancel_and_wait_raises_nothing_of_what_the_tasks_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def fails_as_it_is_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("not now")

    failures = [asyncio.create_task(fails()), asyncio.create_task(fails_as_it_is_cancelled())]
    await asyncio.sleep(0)
    await cancel_and_wait(*failures)
    assert [str(task.exception()) for task in failures] == ["no", "not now"]


async def test_work_that_ends_first_gives_its_result_or_its_exception() -> None:
    async def works() -> str:
        return "image"

    async def fails() -> str:
        raise ValueError("no")

    assert await run_until(asyncio.Event(), works()) == "image"
    with pytest.raises(ValueError, match="no"):
        await run_until(asyncio.Event(), fails())


@pytest.mark.parametrize("drop_late", [False, True])
@pytest.mark.parametrize("is_done_first", [False, True])
async def test_what_work_returns_while_it_is_being_cancelled_counts_unless_it_is_dropped(
    drop_late: bool, is_done_first: bool
) -> None:
    event = asyncio.Event()

    async def works() -> str:
        event.set()
        if not is_done_first:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return "image"

    run = run_until(event, works(), drop_late=drop_late)
    if drop_late and not is_done_first:
        with pytest.raises(Interrupted):
            await run
    else:
        assert await run == "image"


async def test_an_event_that_comes_first_cancels_the_work_and_waits_for_its_end() -> None:
    event = asyncio.Event()
    cleaned_up = False

    async def works() -> None:
        nonlocal cleaned_up
        try:
            event.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up = True

    with pytest.raises(Interrupted):
        await run_until(event, works())
    assert cleaned_up


async def test_work_that_is_done_all_the_same_has_won() -> None:
    event = asyncio.Event()

    async def works() -> str:
        event.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "written"

    assert await run_until(event, works()) == "written"


async def test_a_caller_that_is_cancelled_takes_the_work_with_it() -> None:
    has_begun = asyncio.Event()
    is_cancelled = False

    async def works() -> None:
        nonlocal is_cancelled
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled = True
            raise

    task = asyncio.create_task(run_until(asyncio.Event(), works()))
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_cancelled


async def _ignore_cancels(until: asyncio.Event) -> str:
    """Go on through every cancel until an event is set."""
    while not until.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await until.wait()
    return "late"


async def test_a_task_that_ignores_its_cancels_is_left_after_a_bound_and_counted(logs: io.StringIO) -> None:
    may_end = asyncio.Event()
    stubborn = asyncio.create_task(_ignore_cancels(may_end), name="stubborn")
    obedient = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)

    before = sample("bindery_cancels_ignored_total")
    await asyncio.wait_for(cancel_and_wait(stubborn, obedient, again_seconds=0.01, within_seconds=0.05), 60)
    assert (stubborn.done(), obedient.cancelled()) == (False, True)
    assert line_of(logs, "cancel_ignored")["task"] == "stubborn"
    assert sample("bindery_cancels_ignored_total") - before == 1

    may_end.set()
    assert await stubborn == "late"


async def test_a_caller_that_is_cancelled_is_held_no_longer_than_the_bound() -> None:
    may_end = asyncio.Event()
    stubborn = asyncio.create_task(_ignore_cancels(may_end))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cancel_and_wait(stubborn, again_seconds=0.01, within_seconds=0.05))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 60)
    assert not stubborn.done()
    may_end.set()
    await stubborn


async def test_work_that_ignores_its_cancels_has_lost_against_the_event() -> None:
    event = asyncio.Event()
    event.set()
    may_end = asyncio.Event()
    with pytest.raises(Interrupted):
        await asyncio.wait_for(run_until(event, _ignore_cancels(may_end), again_seconds=0.01, within_seconds=0.05), 60)
    may_end.set()
