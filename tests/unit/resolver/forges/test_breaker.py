"""The circuit breaker: who may ask, and when."""

import time

import pytest

from services.resolver.forges.breaker import CircuitBreaker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def broken(failures: int) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=3, open_seconds=10)
    for _ in range(failures):
        assert breaker.begin()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_only(clock: list[float]) -> None:
    breaker = broken(2)
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.begin()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.begin()


def test_after_its_time_one_may_ask_and_the_others_wait_for_that_one(clock: list[float]) -> None:
    breaker = broken(3)
    clock[0] += 10
    assert breaker.begin()
    assert not breaker.begin()
    breaker.succeeded()
    assert breaker.begin()
    assert breaker.begin()


def test_a_failure_of_that_one_opens_it_anew(clock: list[float]) -> None:
    breaker = broken(3)
    clock[0] += 10
    assert breaker.begin()
    breaker.failed()
    clock[0] += 9
    assert not breaker.begin()
    clock[0] += 1
    assert breaker.begin()


def test_one_that_never_says_how_it_went_keeps_the_others_for_a_while_only(clock: list[float]) -> None:
    breaker = broken(3)
    clock[0] += 10
    assert breaker.begin()
    clock[0] += 10
    assert breaker.begin()
