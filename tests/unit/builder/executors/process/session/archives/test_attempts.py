"""Requests that are repeated: how often, and after which pauses."""

import asyncio

import pytest

from services.builder.executors.process.session.archives.attempts import PassingError, attempted, refusal
from services.common.models.errors import BinderyError


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes any time."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return made


async def tried(*failures: Exception) -> str:
    """Attempt what fails so, once each, and then works."""
    left = list(failures)

    async def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return await attempted(attempt)


async def test_a_pause_is_as_long_as_the_server_asks_for(pauses: list[float]) -> None:
    busy = refusal(429, "a.example", "it", retry_after="59")
    assert isinstance(busy, PassingError)
    assert await tried(busy, refusal(503, "a.example", "it")) == "done"
    assert pauses == [59, 2]


async def test_after_three_attempts_the_last_failure_is_told(pauses: list[float]) -> None:
    down = BinderyError("provider_unavailable", "a.example can't be reached.")
    with pytest.raises(BinderyError, match=r"a.example can't be reached.") as raised:
        await tried(down, down, down)
    assert raised.value.code == "fetch_failed"
    assert pauses == [0.5, 2.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451, 400, 302])
async def test_what_does_not_pass_is_not_repeated(pauses: list[float], status: int) -> None:
    with pytest.raises(BinderyError) as raised:
        await tried(refusal(status, "a.example", "it"))
    assert f"it answered {status}" in raised.value.detail or raised.value.code == "fetch_failed"
    assert pauses == []


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0663"])
async def test_a_pause_that_is_not_understood_is_our_own(pauses: list[float], retry_after: str) -> None:
    assert await tried(refusal(429, "a.example", "it", retry_after=retry_after)) == "done"
    assert pauses == [0.5]
