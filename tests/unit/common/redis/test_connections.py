"""Connections that are closed under their user: that is an outage, whatever redis-py and the event loop make of it."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.redis.connections import TcpConnection
from services.common.redis.rights import Refusals
from services.common.redis.sentinel import MasterPool
from services.common.redis.url import ServerAddress
from tests.support.polling import until

RESET_AT_CLOSE = struct.pack("ii", 1, 0)

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a test in a loop of this kind; services use uvloop."""

    def run_in_loop(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(test)

    return run_in_loop


class Peer:
    """A server that accepts connections, and answers as a master does."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line == b"HELLO\r\n":
                    writer.write(b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n")
                elif line == b"PING\r\n":
                    writer.write(b"+PONG\r\n")

    def reset_all(self) -> None:
        """Reset every connection, as the kernel does for a killed server with unread commands."""
        for writer in self.writers:
            if writer.transport.is_closing():
                continue
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


@contextlib.asynccontextmanager
async def running_peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        peer.port = server.sockets[0].getsockname()[1]
        yield peer
        peer.reset_all()


@contextlib.asynccontextmanager
async def connected(*, timeout_seconds: float | None) -> AsyncIterator[tuple[Any, Peer]]:
    """Connect; `timeout_seconds` is that of commands, which subscriptions don't have."""
    async with running_peer() as peer:
        connection: Any = TcpConnection(
            host="127.0.0.1", port=peer.port, socket_timeout=timeout_seconds, socket_connect_timeout=5,
            lib_name=None, lib_version=None, refusals=Refusals(),
        )  # fmt: skip
        await connection.connect()
        try:
            yield connection, peer
        finally:
            await connection.disconnect(nowait=True)


@pytest.mark.parametrize("timeout_seconds", [5, None])
def test_a_command_on_a_connection_that_was_reset_finds_redis_unavailable(
    run: Callable[[Coroutine[Any, Any, None]], None], timeout_seconds: float | None
) -> None:
    async def send_after_reset() -> None:
        async with connected(timeout_seconds=timeout_seconds) as (connection, peer):
            await connection.send_command("PING")
            assert await connection.read_response() == b"PONG"
            peer.reset_all()
            await until(connection._writer.transport.is_closing)
            with pytest.raises(REDIS_PY_UNAVAILABLE):
                await connection.send_command("PING")

    run(send_after_reset())


def test_a_command_finds_redis_unavailable_if_another_task_closes_its_connection(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def close_while_sending() -> None:
        async with connected(timeout_seconds=5) as (connection, _):
            sending = asyncio.create_task(connection.send_command("PING"))
            await asyncio.sleep(0)  # it has begun to send, in a task of its own
            await connection.disconnect(nowait=True)
            with pytest.raises(REDIS_PY_UNAVAILABLE):
                await sending

    run(close_while_sending())


class ChosenMaster:
    """Sentinels that name the master that a test chooses."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def master(self, *, wrong: object = ()) -> ServerAddress:
        return ServerAddress("127.0.0.1", self.port)


def test_a_connection_that_is_closed_as_its_login_ends_goes_to_the_new_master(
    run: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def move_while_connecting() -> None:
        async with running_peer() as former, running_peer() as present:
            sentinels: Any = ChosenMaster(former.port)
            pool = MasterPool(
                sentinels=sentinels, has_tls=False, max_connections=2, socket_timeout=5, socket_connect_timeout=5,
                lib_name=None, lib_version=None, refusals=Refusals(),
            )  # fmt: skip
            connection: Any = pool.make_connection()
            login = connection.check_server

            async def log_in_as_the_master_moves() -> None:
                await login()
                if sentinels.port == former.port:
                    sentinels.port = present.port
                    await connection.disconnect(nowait=True)  # as another connection does that has found it there

            monkeypatch.setattr(connection, "check_server", log_in_as_the_master_moves)
            await connection.connect()
            assert connection.is_connected
            assert connection.address.port == present.port
            await connection.disconnect(nowait=True)

    run(move_while_connecting())
