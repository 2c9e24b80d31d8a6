"""arq's loop in the worker ends with each connection to Redis that breaks, and is begun again."""

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from services.builder.settings import BuilderSettings
from services.builder.worker import worker as module
from services.builder.worker.worker import BuilderWorker
from services.common.context import ProcessContext
from tests.support.valkey import member_of


class EndOfTest(BaseException):
    """The test has seen enough."""


async def waits_behind(
    runs_seconds: Sequence[float], context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> Sequence[float]:
    """The waits of the worker after runs of arq's loop of given lengths that end because Redis is unavailable."""
    now = 1000.0
    waits = []
    runs = iter(runs_seconds)

    class Poller:
        tasks: dict[str, asyncio.Task[Any]] = {}  # noqa: RUF012 - there never is one

        def __init__(self, *_: object, **__: object) -> None: ...

        async def async_run(self) -> None:
            nonlocal now
            if (seconds := next(runs, None)) is None:
                raise EndOfTest
            now += seconds
            raise ConnectionError

    async def sleep_unless_cancelled(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(module, "JobPoller", Poller)
    monkeypatch.setattr("services.common.service.backoff.sleep_unless_cancelled", sleep_unless_cancelled)
    monkeypatch.setattr("random.uniform", lambda _low, _high: 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    member = member_of(context, "builder")
    parts: Any = SimpleNamespace(common=context, member=member, settings=BuilderSettings())
    with pytest.raises(EndOfTest):
        await BuilderWorker(parts).run_arq()
    return waits


async def test_it_is_begun_again_ever_later(context: ProcessContext, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = await waits_behind([0.0] * 7, context, monkeypatch)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_behind_a_long_run_it_is_begun_again_at_once(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await waits_behind([0.0, 0.0, 0.0, 3600.0, 0.0], context, monkeypatch) == [0.1, 0.2, 0.4, 0.1, 0.2]
