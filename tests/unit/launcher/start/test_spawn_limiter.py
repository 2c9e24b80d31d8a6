"""The launcher's share of starts, and that the task which keeps it right can be cancelled."""

import asyncio
import contextlib

import pytest

from services.common.context import ProcessContext
from services.launcher.settings import LauncherSettings
from services.launcher.start.spawn_limiter import SpawnLimiter


async def test_a_cancel_that_redis_py_swallows_ends_it_all_the_same(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked = asyncio.Event()

    async def scard(_key: str) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            is_asked.set()
            await asyncio.Event().wait()
        return 1

    monkeypatch.setattr(context.lease_redis, "scard", scard)
    task = asyncio.create_task(SpawnLimiter(context, LauncherSettings()).run())
    await is_asked.wait()
    task.cancel()
    _, pending = await asyncio.wait({task}, timeout=10)
    task.cancel()
    assert not pending
