"""The kinds of connections to Redis: each counts its round trips, reports what Redis refuses, and logs in in time."""

import asyncio
from typing import Any

from prometheus_client import Counter
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.common.redis.rights import ReportsRefusals
from services.common.service.call_accounting import attributed_to, call_reason

ROUND_TRIPS = Counter(
    "bindery_redis_round_trips_total", "Writes to a Redis connection: one for each command or pipeline", ["doing"]
)


class CountingConnection(ReportsRefusals):
    """Part of every kind of connection: it counts round trips. A pipeline is one."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send commands, and count that as one round trip.

        Raise redis-py's `ConnectionError`, too, if the connection was closed meanwhile.
        """
        ROUND_TRIPS.labels(call_reason()).inc()
        connection: Any = self
        if connection.is_connected:
            self._raise_if_closed()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]

    async def _send_packed_command(self, command: Any) -> None:
        # With a timeout, redis-py writes in a task of its own: another task may have closed the connection by then.
        self._raise_if_closed()
        await super()._send_packed_command(command)  # type: ignore[misc]

    def _raise_if_closed(self) -> None:
        """Raise redis-py's `ConnectionError` if the connection was reset, or closed by another task.

        redis-py writes to it all the same, which raises `AttributeError`, or uvloop's `RuntimeError`: neither says that
        Redis is away.
        """
        writer: asyncio.StreamWriter | None = getattr(self, "_writer", None)
        if writer is None or writer.transport.is_closing():
            raise RedisConnectionError("The connection was closed before a command was sent")

    async def on_connect(self) -> None:
        """Log in, which is counted apart from the work.

        A subscription reads without a timeout, but this has one: a server that was stopped accepts connections still.
        """
        connection: Any = self
        try:
            async with asyncio.timeout(connection.socket_connect_timeout):
                with attributed_to("connect"):
                    await super().on_connect()  # type: ignore[misc]
                    await self.check_server()
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout logging in to the server") from None

    async def check_server(self) -> None:
        """Raise redis-py's `ConnectionError` if this is not the server to work with; any other kind accepts it."""


# redis-py is read as untyped: its stubs mix sync and async.
class TcpConnection(CountingConnection, Connection):  # type: ignore[misc]
    """A connection for `redis://`."""


class TlsConnection(CountingConnection, SSLConnection):  # type: ignore[misc]
    """A connection for `rediss://`."""


class UnixConnection(CountingConnection, UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection for `unix://`."""
