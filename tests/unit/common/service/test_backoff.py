"""Waits between attempts: they double, vary, end with the patience, and start over when told to."""

import asyncio

import pytest

from services.common.service import backoff as module
from services.common.service.backoff import Backoff


class Clock:
    """The loop's time, moved by sleeping alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(module, "sleep_unless_cancelled", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 6))
        self.now += seconds


async def test_waits_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    backoff = Backoff(first_seconds=0.1, longest_seconds=0.5, jitter=0.0)

    assert [await backoff.sleep() for _ in range(5)] == [True] * 5
    assert clock.waits == [0.1, 0.2, 0.4, 0.5, 0.5]


async def test_jitter_varies_a_wait_and_not_the_one_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    backoff = Backoff(first_seconds=1.0, longest_seconds=8.0, jitter=0.25)

    assert [backoff.next_wait_seconds() for _ in range(3)] == [1.25, 2.5, 5.0]


async def test_it_gives_up_before_a_wait_that_would_outlast_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    backoff = Backoff(first_seconds=1.0, longest_seconds=10.0, patience_seconds=3.5, jitter=0.0)

    assert [await backoff.sleep() for _ in range(3)] == [True, True, False]
    assert (clock.waits, backoff.is_exhausted) == ([1.0, 2.0], True)


async def test_after_a_restart_waits_and_patience_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    backoff = Backoff(first_seconds=1.0, longest_seconds=10.0, patience_seconds=3.5, jitter=0.0)
    await backoff.sleep()
    await backoff.sleep()

    backoff.restart()

    assert not backoff.is_exhausted
    assert await backoff.sleep()
    assert clock.waits == [1.0, 2.0, 1.0]


async def test_waits_start_over_after_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    backoff = Backoff(first_seconds=0.1, longest_seconds=1.0, jitter=0.0)

    for run_seconds in (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 3600.0, 0.0):
        backoff.restart_after_run(run_seconds)
        await backoff.sleep()

    assert clock.waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 0.1, 0.2]
