"""Redis behind Sentinel: a pool of connections to the master that the Sentinels name, which follows a failover.

Sentinel's protocol for clients: valkey.io/topics/sentinel-clients.
"""

import asyncio
import time
import weakref
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.utils import str_if_bytes

from services.common.redis.connections import TcpConnection, TlsConnection
from services.common.redis.refused import RedisRefused
from services.common.redis.url import SentinelUrl, ServerAddress
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.service.single_flight import SingleFlight
from services.common.service.tasks import cancel_and_wait

log = get_logger(__name__)

ASK_AGAIN_SECONDS = 1.0
"""Shortest time between two connections that are given up because their server refuses writes."""


class Sentinels:
    """The Sentinels of one master. All are asked at once; one that is down, or knows no living master, is ignored."""

    def __init__(self, url: SentinelUrl, settings: ServiceSettings) -> None:
        self._url = url
        self._timeout_seconds = settings.redis_timeout_seconds
        self._kind = SSLConnection if url.has_tls else Connection
        password = settings.redis_sentinel_password.get_secret_value()
        self._options: dict[str, Any] = {
            "username": settings.redis_sentinel_username or None,
            "password": password or None,
            "socket_connect_timeout": self._timeout_seconds,
            "socket_timeout": self._timeout_seconds,
            "lib_name": None,
            "lib_version": None,
            **url.tls_options,
        }
        self._lookups: SingleFlight[ServerAddress] = SingleFlight()

    async def master(self, *, wrong: Sequence[ServerAddress] = ()) -> ServerAddress:
        """Return the first address that a Sentinel names and that is not one of the `wrong`.

        Raise redis-py's `ConnectionError`, with what each Sentinel said, within `redis_timeout_seconds`.
        """
        return await self._lookups.run(" ".join(map(str, wrong)), lambda: self._look_up(wrong))

    async def _look_up(self, wrong: Sequence[ServerAddress]) -> ServerAddress:
        queries = {asyncio.create_task(self._ask(sentinel), name=f"ask {sentinel}") for sentinel in self._url.sentinels}
        replies = []
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for upcoming in asyncio.as_completed(queries):
                    reply = await upcoming
                    if isinstance(reply, ServerAddress) and reply not in wrong:
                        return reply
                    replies.append(str(reply))
        except TimeoutError:
            replies.append("no answer from the others")
        finally:
            await cancel_and_wait(*queries)
        raise RedisConnectionError(f"No Sentinel names a master {self._url.master_name!r} to work with: {replies}")

    async def _ask(self, sentinel: ServerAddress) -> ServerAddress | str:
        """Return the master that a Sentinel names, or why it names none."""
        connection = self._kind(host=sentinel.host, port=sentinel.port, **self._options)
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "MASTER", self._url.master_name)
            fields = [str_if_bytes(field) for field in await connection.read_response()]
            state = dict(zip(fields[::2], fields[1::2], strict=True))
            flags = set(state["flags"].split(","))
            if "master" not in flags or flags & {"s_down", "o_down"}:
                return f"{sentinel}: it is {state['flags']}"
            return ServerAddress(state["ip"], int(state["port"]))
        except AuthenticationError as error:
            return f"{sentinel}: {error} (BINDERY_REDIS_SENTINEL_PASSWORD)"
        except (RedisError, OSError, ValueError, KeyError, TypeError) as error:
            return f"{sentinel}: {error or type(error).__name__}"
        finally:
            await connection.disconnect(nowait=True)


class MasterPool(BlockingConnectionPool):  # type: ignore[misc]  # redis-py is read as untyped
    """A bounded pool of connections to the present master."""

    def __init__(self, *, sentinels: Sentinels, has_tls: bool, **options: Any) -> None:
        super().__init__(connection_class=MasterTlsConnection if has_tls else MasterTcpConnection, **options)
        self.connection_kwargs["pool"] = weakref.proxy(self)
        self.sentinels = sentinels
        self._master: ServerAddress | None = None
        self._gave_up_at = -ASK_AGAIN_SECONDS

    async def on_master(self, address: ServerAddress) -> None:
        """Close every connection to another server: a connection has found the master at `address`.

        A call that waits for a reply from a server that was stopped fails at once, instead of at its timeout.
        """
        if address == self._master:
            return
        if self._master:
            log.warning("redis_master_moved", before=str(self._master), now=str(address))
        self._master = address
        for connection in (*self._available_connections, *self._in_use_connections):
            if connection.is_connected and connection.address != address:
                await connection.disconnect(nowait=True)

    def may_give_up_connection(self) -> bool:
        """Return whether to look the master up again since this one refuses writes: at most once a second."""
        now = time.monotonic()
        if now - self._gave_up_at < ASK_AGAIN_SECONDS:
            return False
        self._gave_up_at = now
        return True


class _MasterConnection:
    """Part of a connection: it connects to the master that the Sentinels name, and makes sure that it is one."""

    host: str
    port: int

    def __init__(self, *, pool: MasterPool, **options: Any) -> None:
        super().__init__(**options)
        self._pool = pool

    @property
    def address(self) -> ServerAddress:
        """The server that it is connected to, or was last."""
        return ServerAddress(self.host, self.port)

    async def connect(self) -> None:
        """Connect to the master, unless connected. Raise redis-py's `ConnectionError` if none is found."""
        connection: Any = self
        if connection.is_connected:
            return

        failures: dict[ServerAddress, str] = {}
        while True:
            try:
                self.host, self.port = await self._pool.sentinels.master(wrong=tuple(failures))
            except RedisConnectionError as error:
                tried = "".join(f" {address}: {why}." for address, why in failures.items())
                raise RedisConnectionError(f"{error}{tried and '; tried'}{tried}") from None
            try:
                await super().connect()  # type: ignore[misc]
            except RedisError as error:
                failures[self.address] = str(error)
            else:
                if connection.is_connected:  # else it was closed by a connection that has found the master elsewhere
                    break
        await self._pool.on_master(self.address)

    async def check_server(self) -> None:
        """Raise redis-py's `ConnectionError` for a replica: a Sentinel that is cut off names the master from before.

        Everybody may run HELLO, whatever their rights.
        """
        connection: Any = self
        await connection.send_command("HELLO")
        reply = [str_if_bytes(field) for field in await connection.read_response()]
        role = dict(zip(reply[::2], reply[1::2], strict=True)).get("role")
        if role != "master":
            raise RedisConnectionError(f"it is a {role}, not the master")

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Give the connection up if it shows that the server is, or may be, the master no longer."""
        connection: Any = self
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            await connection.disconnect(nowait=True)
            raise
        except RedisRefused as error:
            lacks_peers = str(error).startswith(("NOREPLICAS", "MASTERDOWN"))
            if lacks_peers and self._pool.may_give_up_connection():
                await connection.disconnect(nowait=True)
            raise


class MasterTcpConnection(_MasterConnection, TcpConnection):
    """A connection for `redis+sentinel://`."""


class MasterTlsConnection(_MasterConnection, TlsConnection):
    """A connection for `rediss+sentinel://`."""
