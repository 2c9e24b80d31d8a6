"""The least HTTP server that our services' clients can talk to: kept connections, small requests, fixed answers."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)

Answer = tuple[int, str, bytes, Mapping[str, str]]
"""Status, content type, body, further headers."""

Handle = Callable[[str, str, bytes, bytes], Answer]
"""From method, target, head and body to an answer."""

OnAnswer = Callable[[str, float], None]
"""Takes the target of a request and the seconds from its receipt to its answer."""

_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 304: "Not Modified", 404: "Not Found"}


class Turn:
    """When the turn of the event loop began: requests that are read in one turn wait for one another."""

    def __init__(self) -> None:
        self._started_at = 0.0

    def started_at(self) -> float:
        """Return the time at which the first request of this turn was read."""
        if not self._started_at:
            self._started_at = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._end)
        return self._started_at

    def _end(self) -> None:
        self._started_at = 0.0


class StubProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, handle: Handle, on_answer: OnAnswer | None = None, turn: Turn | None = None) -> None:
        self.handle = handle
        self.on_answer = on_answer
        self.turn = turn or Turn()
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class does not say so

    def data_received(self, data: bytes) -> None:
        received_at = self.turn.started_at()
        self.data += data
        while (head_end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[: head_end + 2]
            length = _LENGTH.search(head)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < end:
                return
            body = self.data[head_end + 4 : end]
            self.data = self.data[end:]
            method, target, _ = head.split(b" ", 2)
            self._answer(self.handle(method.decode(), target.decode("latin-1"), head, body))
            if self.on_answer:
                self.on_answer(target.decode("latin-1"), time.perf_counter() - received_at)
            if b"\r\nconnection: close" in head.lower():
                self.transport.close()

    def _answer(self, answer: Answer) -> None:
        status, content_type, body, headers = answer
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Some')}"]
        if status not in {204, 304}:
            lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        else:
            body = b""
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


async def serve(handle: Handle, port: int, on_answer: OnAnswer | None = None) -> None:
    """Serve on loopback until cancelled."""
    turn = Turn()
    server = await asyncio.get_running_loop().create_server(
        lambda: StubProtocol(handle, on_answer, turn), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()
