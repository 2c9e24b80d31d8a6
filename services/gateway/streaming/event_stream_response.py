"""Sending a stream to a client: one send per tick, keepalives while there is nothing new, and an end on a drain.

The headers are those of sse-starlette, and so is the writing of single blocks. Its response is not used: it sends each
event by itself and wakes each client by timers of its own, while thousands of clients here share one scheduler's ticks.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from sse_starlette import ServerSentEvent
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.service.tasks import cancel_and_wait
from services.common.streams.topic_stream import Listener
from services.common.web.incoming import is_head
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.send_scheduler import SendScheduler, Subscriber

SEND_BYTES = 256 * 1024
"""A send ends with the chunk that takes it past this size."""

HEADERS = {
    "Content-Type": "text/event-stream",  # as BinderHub's: without a charset, which Starlette would add
    "Cache-Control": "no-store",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
}
KEEPALIVE = b":keepalive\n\n"
RECONNECT_SOON = ServerSentEvent(retry=500, sep="\n").encode()


class Stream(Protocol):
    """The content of a response: `LaunchStream` or `BuildStream`."""

    def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
        """Yield chunks; yield None if the caller must wait for `notify` before it asks for more."""


class EventStreamResponse(Response):
    """An HTTP response that sends a stream as it grows.

    `ends_on_drain` ends it when the process is told to stop, so that the client resumes at another gateway. `lingers`
    keeps it open for `linger_seconds` after the stream's end: BinderHub's clients close it, and take an early end for a
    failure.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        scheduler: SendScheduler,
        settings: GatewaySettings,
        headers: Mapping[str, str] | None = None,
        lingers: bool = False,
        ends_on_drain: bool = True,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**HEADERS, **(headers or {})})

        self._stream = stream
        self._scheduler = scheduler
        self._settings = settings
        self._lingers = lingers
        self._ends_on_drain = ends_on_drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream has ended or the client has left. A HEAD request gets the headers, and nothing runs."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if is_head(HTTPConnection(scope)):
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return

        task = asyncio.current_task()
        subscriber = self._scheduler.add(task)
        disconnect = asyncio.create_task(_wait_for_disconnect(receive, subscriber))
        try:
            await send(start)
            await self._deliver(send, subscriber, disconnect)
            if not subscriber.has_left:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not subscriber.is_too_slow or task is None or task.uncancel():
                raise
        finally:
            self._scheduler.remove(subscriber)
            await cancel_and_wait(disconnect)

    async def _deliver(self, send: Send, subscriber: Subscriber, disconnect: asyncio.Task[None]) -> None:
        """Send the stream, joining the chunks that are there at once."""
        buffer: list[bytes] = []
        size = 0

        async with contextlib.aclosing(self._stream.chunks(subscriber)) as chunks:
            async for chunk in chunks:
                if subscriber.has_left:
                    return
                if chunk is not None:
                    buffer.append(chunk)
                    size += len(chunk)
                    if size < SEND_BYTES:
                        continue

                if buffer:
                    await _send(send, subscriber, b"".join(buffer))
                    buffer = []
                    size = 0
                if chunk is None and not await self._wait_for_news(send, subscriber):
                    return

        if buffer:
            await _send(send, subscriber, b"".join(buffer))
        if self._lingers:
            await self._linger(send, subscriber, disconnect)

    async def _wait_for_news(self, send: Send, subscriber: Subscriber) -> bool:
        """Wait for more, and send keepalives meanwhile. Return False if this response ends here."""
        while not subscriber.has_left:
            if self._scheduler.is_draining and self._ends_on_drain:
                await _send(send, subscriber, RECONNECT_SOON)
                return False

            await subscriber.wait()
            if subscriber.has_news:
                return not subscriber.has_left
            if subscriber.silent_seconds >= self._settings.keepalive_seconds:
                await _send(send, subscriber, KEEPALIVE)
        return False

    async def _linger(self, send: Send, subscriber: Subscriber, disconnect: asyncio.Task[None]) -> None:
        """Stay open until the client closes the connection, the process drains, or `linger_seconds` are over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.linger_seconds
        drain = asyncio.create_task(self._scheduler.draining.wait())

        try:
            while (remaining := end - loop.time()) > 0:
                done, _ = await asyncio.wait(
                    {disconnect, drain},
                    timeout=min(remaining, self._settings.keepalive_seconds),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if done:
                    return

                if remaining > self._settings.keepalive_seconds:
                    await _send(send, subscriber, KEEPALIVE)
        finally:
            await cancel_and_wait(drain)


async def _send(send: Send, subscriber: Subscriber, body: bytes) -> None:
    subscriber.on_send_start()
    await send({"type": "http.response.body", "body": body, "more_body": True})
    subscriber.on_send_end()


async def _wait_for_disconnect(receive: Receive, subscriber: Subscriber) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:  # a client whose request body exceeds the limit is treated as one that has left
        subscriber.leave()
