"""Delivery: when a stream that has told its end is closed."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from services.common.streams.topic_stream import Listener
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.event_stream_response import EventStreamResponse
from services.gateway.streaming.send_scheduler import SendScheduler


class OneChunkStream:
    """A stream that has nothing to tell but its end."""

    async def chunks(self, _listener: Listener) -> AsyncGenerator[bytes | None, None]:
        yield b"data: the end\n\n"


async def test_a_stream_that_lingers_ends_when_the_process_does() -> None:
    settings = GatewaySettings(linger_seconds=3600, keepalive_seconds=3600)
    scheduler = SendScheduler(settings)
    messages = []
    is_sent = asyncio.Event()

    async def send(message: Message) -> None:
        messages.append(message)
        if message.get("body"):
            is_sent.set()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    response = EventStreamResponse(
        OneChunkStream(), scheduler=scheduler, settings=settings, lingers=True, ends_on_drain=False
    )  # fmt: skip
    async with asyncio.timeout(60):
        serving = asyncio.create_task(response({"type": "http"}, receive, send))
        await is_sent.wait()
        done, _ = await asyncio.wait({serving}, timeout=0.05)
        assert not done
        scheduler.drain()
        await serving
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
