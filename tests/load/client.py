"""A client that costs little: sockets and protocols, since it shares the machine with what it measures."""

import asyncio
import json
import os
import re
import ssl
import time
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

_ENDED = re.compile(rb'"phase":\s*"(ready|failed|cancelled)"')
_USER = re.compile(rb'"url":\s*"[^"]*/user/([^/"]+)/')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where a gateway, or the hub's API, listens. Requests show the start token that the environment names."""

    host: str
    port: int
    _: KW_ONLY
    prefix: str = ""
    tls: bool = False
    start_token: str = field(default_factory=lambda: os.environ.get("BINDERY_START_TOKEN", ""), repr=False)

    @classmethod
    def of(cls, url: str) -> "Place":
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(
            parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), prefix=parts.path.rstrip("/"), tls=tls
        )

    @property
    def context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.tls else None

    def request(self, method: str, path: str, **headers: str) -> bytes:
        """Return the bytes of a request without a body."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if self.start_token:
            headers = {"Authorization": f"Bearer {self.start_token}"} | headers
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True)
class Outcome:
    """How one launch went, in seconds from the first byte sent; `user` is the hub's, of a launch that is ready."""

    seconds: float
    phase: str
    user: str = ""


class _Launch(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.started_at = 0.0
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class does not say so
        self.started_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        window = self.tail + data
        if not (match := _ENDED.search(window)):
            self.tail = window[-64:]
            return
        if (end := window.find(b"\n\n", match.end())) < 0:  # the rest of the event is still to come
            self.tail = window[match.start() :]
            return
        user = _USER.search(window, match.start(), end)
        self._end(match[1].decode(), user[1].decode() if user else "")
        self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._end("broken")

    def _end(self, phase: str, user: str = "") -> None:
        if not self.outcome.done():
            self.outcome.set_result(Outcome(time.perf_counter() - self.started_at, phase, user))


async def launch(place: Place, path: str, *, seconds: float = 60.0) -> Outcome:
    """Launch by the façade and leave when the launch has ended. `path` begins with `/build/`."""
    request = place.request("GET", path, Accept="text/event-stream")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, protocol = await loop.create_connection(
                lambda: _Launch(request), place.host, place.port, ssl=place.context
            )
            try:
                return await protocol.outcome
            finally:
                protocol.transport.close()
    except TimeoutError:
        return Outcome(seconds, "timeout")
    except OSError:
        return Outcome(0.0, "refused")


class _Repeating(asyncio.Protocol):
    """Sends one request again and again over one connection, for as long as it is told to."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.replies = 0
        self.failures = 0
        self.stopping = False
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class does not say so
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        if head < 0 or not (length := _LENGTH.search(self.data, 0, head + 2)):
            return
        if len(self.data) < head + 4 + int(length[1]):
            return
        self.replies += 1
        self.failures += not self.data.startswith(b"HTTP/1.1 200")
        self.data = b""
        if self.stopping:
            self.transport.close()
        else:
            self.transport.write(self.request)


async def repeat(place: Place, path: str, *, connections: int, seconds: float, **headers: str) -> tuple[float, int]:
    """Return requests per second of one address over kept connections, and how many answers were not 200."""
    request = place.request("GET", path, **headers)
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Repeating(request), place.host, place.port))[1]
        for _ in range(connections)
    ]
    started_at = time.perf_counter()
    before = sum(client.replies for client in clients)
    await asyncio.sleep(seconds)
    replies = sum(client.replies for client in clients) - before
    took = time.perf_counter() - started_at
    for client in clients:
        client.stopping = True
        client.transport.close()
    return replies / took, sum(client.failures for client in clients)


async def fetch(place: Place, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Make one request over a connection of its own; return (status, body). An event stream is read to its end."""
    content = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.context)
    try:
        writer.write(place.request(method, path, Connection="close", Content_Length=str(len(content)), **headers))
        writer.write(content)
        raw = await reader.read()
    finally:
        writer.close()
    head, _, rest = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), rest


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of all are not above; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
