"""The connection to Redis: timeouts on every call, a bounded pool, and a count of round trips."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from prometheus_client import Counter
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.common.redis.refused import RedisRefused
from services.common.redis.rights import Refusals, ReportsRefusals
from services.common.service.backoff import Backoff
from services.common.service.call_accounting import attributed_to, call_reason
from services.common.service.settings import ServiceSettings

T = TypeVar("T")

REDIS_PY_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, RedisRefused)
"""Errors of a Redis that restarts, fails over or refuses commands for now.

Catch these around code that calls other services, too, whose failures are built-in errors.
"""
REDIS_UNAVAILABLE = (*REDIS_PY_UNAVAILABLE, ConnectionError, TimeoutError)
"""Every error of a Redis that is unavailable for now. Catch these around calls of Redis alone; wait and try again."""

ROUND_TRIPS = Counter(
    "bindery_redis_round_trips_total", "Writes to a Redis connection: one for each command or pipeline", ["doing"]
)


class CountingConnection(ReportsRefusals):
    """Part of every kind of connection: it counts round trips. A pipeline is one."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send commands, and count that as one round trip."""
        ROUND_TRIPS.labels(call_reason()).inc()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]

    async def on_connect(self) -> None:
        """Log in, which is counted apart from the work."""
        with attributed_to("connect"):
            await super().on_connect()  # type: ignore[misc]


# redis-py is read as untyped: its stubs mix sync and async.
class TcpConnection(CountingConnection, Connection):  # type: ignore[misc]
    """A connection for `redis://`."""


class TlsConnection(CountingConnection, SSLConnection):  # type: ignore[misc]
    """A connection for `rediss://`."""


class UnixConnection(CountingConnection, UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection for `unix://`."""


class SentinelConnection(CountingConnection, SentinelManagedConnection):  # type: ignore[misc]
    """A connection for `redis+sentinel://`: to the server that Sentinel names."""


_CONNECTIONS = {"rediss": TlsConnection, "unix": UnixConnection}
"""By the scheme of the URL; any other is TCP's."""


def connect(
    settings: ServiceSettings,
    *,
    read_seconds: float | None = -1.0,
    connections: int | None = None,
    refusals: Refusals | None = None,
) -> Redis:
    """Return a client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,…/<service>/<db>`.

    `read_seconds=None` waits for a reply without end: for subscriptions, whose caller keeps time itself. `refusals`
    records what Redis refuses.
    """
    url = settings.redis_url.get_secret_value()
    timeout = settings.redis_timeout_seconds
    if read_seconds == -1.0:
        read_seconds = timeout
    options: dict[str, Any] = {
        "socket_connect_timeout": timeout,
        "socket_timeout": read_seconds,
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,  # else each new connection tells them in two more round trips
        "lib_version": None,
        "refusals": refusals or Refusals(),
    }

    if url.startswith("redis+sentinel://"):
        return _connect_by_sentinel(url, timeout, options)

    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections or settings.redis_max_connections,
        timeout=settings.redis_patience_seconds,
        **options,
    )
    # Not by an argument: what the URL says, and with it the scheme's own class, would win.
    pool.connection_class = _CONNECTIONS.get(url.partition("://")[0], TcpConnection)
    return Redis(connection_pool=pool)


def _connect_by_sentinel(url: str, timeout: float, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url.replace("redis+sentinel://", "redis://", 1))
    hosts = [
        (host.rpartition(":")[0] or host, int(host.rpartition(":")[2] or 26379))
        for host in parts.netloc.rpartition("@")[2].split(",")
    ]
    service, _, db = parts.path.strip("/").partition("/")

    login = {"username": parts.username, "password": parts.password}
    login = {name: unquote(value) for name, value in login.items() if value}
    sentinel = Sentinel(hosts, socket_timeout=timeout, **login)
    options |= {"socket_keepalive": True, "connection_class": SentinelConnection}
    return sentinel.master_for(service or "mymaster", db=int(db or 0), **options)


async def retry_while_unavailable(call: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Return the result of `call()`, repeated while Redis is unavailable, for `seconds` at most.

    The call must be safe to repeat: after a lost reply it is unknown whether Redis applied it. Raise its last error
    when the time is over.
    """
    backoff = Backoff(first_seconds=0.05, longest_seconds=1.0, patience_seconds=seconds)
    while True:
        try:
            return await call()
        except REDIS_UNAVAILABLE:
            if not await backoff.sleep():
                raise
