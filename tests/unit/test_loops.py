"""A loop ends when it is cancelled, also where the cancel was swallowed below it."""

import asyncio
import contextlib

import pytest

from services.common.loops import pause


async def test_a_swallowed_cancel_takes_effect_at_the_next_pause() -> None:
    begun, turns = asyncio.Event(), 0

    async def loop() -> None:
        nonlocal turns
        while True:
            turns += 1
            with contextlib.suppress(asyncio.CancelledError):  # what a library does that mistakes it for its own
                begun.set()
                await asyncio.Event().wait()
            await pause(0)

    task = asyncio.create_task(loop())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert turns == 1
