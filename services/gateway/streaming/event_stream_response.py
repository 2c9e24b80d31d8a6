"""Sending streams: one chunk a client and tick, with keepalives from the same clock."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from sse_starlette import EventSourceResponse
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from services.common.streams.topic_stream import Listener
from services.common.web.incoming import is_head
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.launch_stream import Chunk
from services.gateway.streaming.send_scheduler import SendScheduler, Subscriber

MAX_CHUNK = 256 * 1024


class Stream(Protocol):
    """What is sent: see `LaunchStream`."""

    def chunks(self, listener: Listener) -> AsyncGenerator[Chunk | None, None]: ...


RenderTerminal = Callable[[dict[str, Any], str], Awaitable[bytes]]
"""The bytes of the launch's terminal event for one client, from the event and its id."""


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in tuple[bytes]():
        yield chunk


class EventStreamResponse(EventSourceResponse):
    """A launch's stream as an HTTP response: sse-starlette's type and headers, our own delivery."""

    def __init__(
        self,
        stream: Stream,
        terminal: RenderTerminal,
        scheduler: SendScheduler,
        settings: GatewaySettings,
        *,
        headers: dict[str, str] | None = None,
        lingers: bool = False,
        ends_on_drain: bool = True,
    ) -> None:
        # As BinderHub's: without a charset, which Starlette would add to a media type.
        super().__init__(_nothing(), headers={"Content-Type": "text/event-stream", **(headers or {})})
        self._stream, self._terminal, self._scheduler, self._settings = stream, terminal, scheduler, settings
        self._lingers, self._ends_on_drain = lingers, ends_on_drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the launch has ended or the client has gone. For HEAD nothing is followed."""
        if is_head(HTTPConnection(scope)):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        task = asyncio.current_task()
        client = self._scheduler.add(task)
        gone = asyncio.create_task(_until_gone(receive, client))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._deliver(send, client, gone)
            if not client.is_gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not client.is_too_slow or task is None or task.uncancel():
                raise
        finally:
            self._scheduler.remove(client)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _send(self, send: Send, client: Subscriber, body: bytes) -> None:
        client.sending()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        client.sent()

    async def _deliver(self, send: Send, client: Subscriber, gone: asyncio.Task[None]) -> None:
        unsent: list[bytes] = []
        size = 0
        async with contextlib.aclosing(self._stream.chunks(client)) as chunks:
            async for piece in chunks:
                if client.is_gone:
                    return
                if piece is not None:
                    body = await self._terminal(piece.terminal, piece.id) if piece.terminal else piece.chunk
                    unsent.append(body)
                    size += len(body)
                    if size < MAX_CHUNK:
                        continue
                if unsent:
                    await self._send(send, client, b"".join(unsent))
                    unsent, size = [], 0
                if piece is None and not await self._wait(send, client):
                    return
        if unsent:
            await self._send(send, client, b"".join(unsent))
        if self._lingers:
            await self._linger(send, client, gone)

    async def _wait(self, send: Send, client: Subscriber) -> bool:
        """Wait for more, saying now and then that the stream lives. False when this stream is to end here."""
        while not client.is_gone:
            if self._scheduler.is_draining and self._ends_on_drain:
                await self._send(send, client, b"retry: 500\n\n")
                return False
            await client.wait()
            if client.has_news:
                return not client.is_gone
            if client.silent_seconds >= self._settings.keepalive_seconds:
                await self._send(send, client, b":keepalive\n\n")
        return False

    async def _linger(self, send: Send, client: Subscriber, gone: asyncio.Task[None]) -> None:
        """Stay open for the client to close, while this process does: stock clients take an early end for a failure."""
        end = asyncio.get_running_loop().time() + self._settings.linger_seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            if self._scheduler.is_draining:
                return
            ends = asyncio.create_task(self._scheduler.draining.wait())
            try:
                done, _ = await asyncio.wait(
                    {gone, ends}, timeout=min(left, self._settings.keepalive_seconds),
                    return_when=asyncio.FIRST_COMPLETED,
                )  # fmt: skip
            finally:
                ends.cancel()
            if done:
                return
            if left > self._settings.keepalive_seconds:
                await self._send(send, client, b":keepalive\n\n")


async def _until_gone(receive: Receive, client: Subscriber) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:  # one that sends a body without end is as gone
        client.leave()
