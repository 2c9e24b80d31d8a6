"""The errors of tasks that nobody has read when their tasks are removed, which asyncio would log."""

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture
async def unread_errors() -> AsyncIterator[list[str]]:
    """What asyncio has to say so far; collect the garbage before."""
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, about: errors.append(str(about.get("message"))))
    yield errors
    loop.set_exception_handler(None)
