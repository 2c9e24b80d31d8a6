"""A relay to Redis that can swallow what connections send and receive, as a host does that has gone without a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from services.common.service.tasks import cancel_and_wait

_CHUNK_BYTES = 65536


class _Relayed:
    """One connection through the relay."""

    def __init__(self) -> None:
        self.is_subscription = False
        self.is_swallowed = False


class BlackHole:
    """Listens on loopback and passes on to a Unix socket; a connection that is swallowed stays open, and is mute."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connections: list[_Relayed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.swallows_new = False
        """Whether new connections are swallowed as well."""

    def url(self, url: str) -> str:
        """Return the address of Redis through this relay, with the user and password of its own address."""
        login = urlsplit(url).netloc.rpartition("@")[0]
        return f"redis://{login}@127.0.0.1:{self._port}/0"

    def swallow_subscriptions(self) -> None:
        """Swallow every subscription that is open; commands pass, and so do new subscriptions."""
        for connection in self._connections:
            connection.is_swallowed = connection.is_swallowed or connection.is_subscription

    def swallow_all(self) -> None:
        """Swallow every connection that is open; new ones pass."""
        for connection in self._connections:
            connection.is_swallowed = True

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Relay until the end of the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await cancel_and_wait(*self._tasks)

    def _accept(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(near, near_writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        connection = _Relayed()
        connection.is_swallowed = self.swallows_new
        self._connections.append(connection)
        far, far_writer = await asyncio.open_unix_connection(str(self._socket))
        back = asyncio.create_task(_pass_on(far, near_writer, connection, is_request=False))
        try:
            await _pass_on(near, far_writer, connection, is_request=True)
        finally:
            await cancel_and_wait(back)
            self._connections.remove(connection)
            for writer in (near_writer, far_writer):
                writer.close()


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Relayed, *, is_request: bool
) -> None:
    """Pass on what comes, until the source closes; what comes to a swallowed connection is dropped."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_CHUNK_BYTES):
            if is_request and b"SUBSCRIBE" in data:
                connection.is_subscription = True
            if not connection.is_swallowed:
                sink.write(data)
                await sink.drain()
    if not connection.is_swallowed:
        sink.close()
