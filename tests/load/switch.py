"""A switch before replicas that listen at Unix sockets: a new connection goes to the next that accepts it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path

_CHUNK_BYTES = 1 << 16


class Switch:
    """Listens at one socket, and passes connections on to `replicas` by turns, as a Service of Kubernetes does."""

    def __init__(self, replicas: Sequence[Path]) -> None:
        self._replicas = cycle(replicas)
        self._count = len(replicas)
        self._under_way: set[asyncio.Task[object] | None] = set()
        """The tasks of open connections: asyncio alone would let go of them, with what they wait for."""

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Accept connections for the length of the block."""
        server = await asyncio.start_unix_server(self._pass_on, path)
        try:
            yield
        finally:
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._count):
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_unix_connection(next(self._replicas))
                break
        else:
            writer.close()
            return

        task = asyncio.current_task()
        self._under_way.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # at the end of the loop, which would report each of them
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._under_way.discard(task)
            for one in (writer, far_writer):
                one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on one direction until its end; the end of a service's answers ends the connection."""
    with contextlib.suppress(OSError, RuntimeError):  # the latter is uvloop's, for a transport that the peer has closed
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
