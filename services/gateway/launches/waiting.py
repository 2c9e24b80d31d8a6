"""Waiting for the end of a topic that another process writes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from services.common.context import ProcessContext
from services.common.redis.keys import Topic
from services.common.streams.entries import STREAM_START, Entry


async def events_until_end(
    context: ProcessContext, topic: Topic, *, look_again_seconds: float
) -> AsyncGenerator[tuple[Entry, dict[str, Any]], None]:
    """Every event of a topic, until its terminal one, or until its record is found to have gone with Redis."""
    changed, at = asyncio.Event(), STREAM_START
    async with context.bus.follow(topic, changed.set) as reader:
        while True:
            changed.clear()
            for entry in await reader.after(at):
                at = entry.id
                for event in entry.events:
                    yield entry, event
                if entry.is_terminal:
                    return
            try:
                async with asyncio.timeout(look_again_seconds):
                    await changed.wait()
            except TimeoutError:
                if await context.bus.is_lost(reader):
                    return
