"""A follower of one topic, without a launch around it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from services.common.context import ProcessContext
from services.common.redis.keys import Topic
from services.common.streams.event_format import EventFormat
from services.common.streams.topic_stream import AwaitableListener, TopicStream

OnChunk = Callable[[], Awaitable[object]]


async def content_followed(
    context: ProcessContext, topic: Topic, form: EventFormat, *, on_chunk: OnChunk | None = None
) -> str:
    """Return all that a follower of the topic gets to its end. `on_chunk` is called after each part of it."""
    stream = TopicStream(bus=context.bus, logs=context.logs, topic=topic, form=form, prefix="t")
    listener = AwaitableListener()
    content = b""
    async with asyncio.timeout(60), contextlib.aclosing(stream.chunks(listener)) as chunks:
        async for chunk in chunks:
            if chunk is None:
                await listener.wait()
                continue
            content += chunk
            if on_chunk:
                await on_chunk()
    return content.decode()
