"""The clock that all processes share: what Redis says, counted on by the monotonic clock."""

import io
import json
import time

import pytest

from services.common.service.clock import OFFSET, SharedClock


def told(clock: SharedClock, offset: float, *, seconds: float = 0.0, warn_seconds: float = 1.0) -> None:
    """Let Redis say a time from which this host's clock is `offset` off; its answer takes `seconds`."""
    asked_at = time.monotonic()
    clock.set(
        time.time() - offset + seconds / 2, asked_at=asked_at, answered_at=asked_at + seconds, warn_seconds=warn_seconds
    )


def test_before_redis_was_asked_it_is_this_hosts_clock() -> None:
    assert SharedClock().now() == pytest.approx(time.time(), abs=0.5)


@pytest.mark.parametrize("offset", [5.0, -5.0])
def test_it_shows_the_time_of_redis_whichever_way_this_host_is_off(offset: float) -> None:
    clock = SharedClock()
    told(clock, offset)
    assert clock.now() == pytest.approx(time.time() - offset, abs=0.5)
    assert OFFSET._value.get() == pytest.approx(offset, abs=0.5)


def test_half_of_the_time_that_the_answer_took_is_taken_off() -> None:
    clock = SharedClock()
    told(clock, 5.0, seconds=2.0)
    assert clock.now() == pytest.approx(time.time() - 5.0, abs=0.5)


def test_a_step_of_this_hosts_clock_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SharedClock()
    told(clock, 0.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert clock.now() == pytest.approx(real(), abs=0.5)


def test_an_answer_that_took_long_moves_it_only_by_more_than_it_may_be_wrong() -> None:
    clock = SharedClock()
    told(clock, 0.0)
    before = clock.now() - time.time()
    told(clock, 3.0, seconds=8.0)
    assert clock.now() - time.time() == pytest.approx(before, abs=0.5)
    told(clock, 5.0, seconds=8.0)
    assert clock.now() - time.time() == pytest.approx(before - 5.0, abs=0.5)


def test_an_offset_is_logged_when_it_changes_and_when_it_is_over(logs: io.StringIO) -> None:
    clock = SharedClock()
    for offset in (0.2, 5.0, 5.1, 9.0, 0.0, 0.1):
        told(clock, offset)
    entries = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [(entry["level"], round(entry["seconds"])) for entry in entries if entry["event"] == "clock_offset"] == [
        ("warning", 5),
        ("warning", 9),
        ("info", 0),
    ]
