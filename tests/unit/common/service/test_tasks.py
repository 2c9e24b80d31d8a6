"""A loop ends when it is cancelled, also where the cancel was swallowed below it; and waits between its runs."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from services.common.service.tasks import Backoff, sleep_unless_cancelled


async def test_a_swallowed_cancel_takes_effect_at_the_next_pause() -> None:
    begun, turns = asyncio.Event(), 0

    async def loop() -> None:
        nonlocal turns
        while True:
            turns += 1
            with contextlib.suppress(asyncio.CancelledError):  # what a library does that mistakes it for its own
                begun.set()
                await asyncio.Event().wait()
            await sleep_unless_cancelled(0)

    task = asyncio.create_task(loop())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert turns == 1


def test_waits_grow_to_the_longest_and_begin_anew_behind_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("services.common.service.tasks.time", SimpleNamespace(monotonic=lambda: now))
    backoff = Backoff(0.1, 1.0)

    def after_a_run_of(seconds: float) -> float:
        nonlocal now
        backoff.begin()
        now += seconds
        return backoff.wait_seconds()

    assert [after_a_run_of(0.5) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [after_a_run_of(seconds) for seconds in (3600.0, 0.0)] == [0.1, 0.2]
