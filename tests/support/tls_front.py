"""A relay that speaks TLS to clients which do, and passes on what others send: the wheel's Valkey has no TLS itself."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

_CHUNK_BYTES = 65536
_TLS_HANDSHAKE = b"\x16"


class _Fronts:
    """Relays from public ports to others, in an event loop of their own thread."""

    def __init__(self, ports: Mapping[int, int], context: ssl.SSLContext, host: str) -> None:
        self._context = context
        self._peeks = ThreadPoolExecutor(64)
        self._listeners = {socket.create_server((host, public), backlog=256): port for port, public in ports.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, ended: asyncio.Event) -> None:
        for listener, port in self._listeners.items():
            listener.setblocking(False)
            self._start(self._accept(listener, port))
        await ended.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._peeks.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(listener)
            self._start(self._relay(near, port))

    async def _relay(self, near: socket.socket, port: int) -> None:
        loop = asyncio.get_running_loop()
        near.settimeout(10)
        with contextlib.suppress(OSError, ssl.SSLError):
            first = await loop.run_in_executor(self._peeks, near.recv, 1, socket.MSG_PEEK)
            near.setblocking(False)
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            context = self._context if first == _TLS_HANDSHAKE else None
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, near, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
            finally:
                writer.close()
        near.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while content := await reader.read(_CHUNK_BYTES):
                writer.write(content)
                await writer.drain()
    finally:
        writer.close()


@contextlib.contextmanager
def tls_fronts(ports: Mapping[int, int], context: ssl.SSLContext, *, host: str = "127.0.0.1") -> Iterator[None]:
    """Relay to each port from the public port of `host` beside it, with TLS for clients that begin a handshake."""
    fronts = _Fronts(ports, context, host)
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(fronts.run(ended),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()
