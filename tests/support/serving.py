"""An application served as our services are: uvicorn on uvloop with our protocol, on a thread and a port of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvloop

from services.common.service.settings import ServiceSettings
from services.common.web.http_protocol import HttpConfig
from services.common.web.serve import HttpServer, http_config
from tests.support.settings import settings_for

SECONDS = 20


class Serving(HttpServer):
    """A server that others end; it says when it listens."""

    def __init__(self, config: HttpConfig) -> None:
        super().__init__(config, end_seconds=600)
        self.listens = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    def run_on_uvloop(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())


@contextlib.contextmanager
def serving(app: Any, **settings: Any) -> Iterator[Serving]:
    """Serve `app` until the block ends."""
    server = Serving(http_config(app, settings_for(ServiceSettings, settings), drain_seconds=1))
    thread = threading.Thread(target=server.run_on_uvloop, daemon=True)
    thread.start()
    try:
        assert server.listens.wait(SECONDS), "it does not listen"
        yield server
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


class Wire:
    """One connection to a server, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send some bytes; a connection that the server has closed is not an error."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read the next answer: status, headers in lower case, body by its length."""
        status, headers = await self.head()
        async with asyncio.timeout(SECONDS):
            return status, headers, await self._reader.readexactly(int(headers.get("content-length", "0")))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of the next answer: status, headers in lower case."""
        async with asyncio.timeout(SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split(" ")[1]), headers

    async def rest(self) -> bytes:
        """Read all that comes until the server closes."""
        received = b""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                while chunk := await self._reader.read(65536):
                    received += chunk
        return received


@contextlib.asynccontextmanager
async def connect(server: Serving) -> Any:
    """Open a connection to `server`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
