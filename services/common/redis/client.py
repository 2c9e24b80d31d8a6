"""The connection to Redis: timeouts on every call, a bounded pool, and a count of round trips."""

import asyncio
import random
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

from services.common.redis.rights import Refusals, Telling
from services.common.service.call_accounting import attributed_to, call_reason
from services.common.service.settings import ServiceSettings

T = TypeVar("T")

REDIS_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
REDIS_UNAVAILABLE = (*REDIS_UNREACHABLE, ConnectionError, TimeoutError)
"""What a Redis that restarts or fails over looks like from here: wait and ask again."""

ROUND_TRIPS = Counter(
    "bindery_redis_round_trips_total", "Writes to a Redis connection: one a command or pipeline", ["doing"]
)


class Counted(Telling):
    """What every kind of connection has: it counts what is sent. A pipeline is one round trip."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        ROUND_TRIPS.labels(call_reason()).inc()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]

    async def on_connect(self) -> None:
        with attributed_to("connect"):
            await super().on_connect()  # type: ignore[misc]


# redis-py is read as untyped: its stubs mix sync and async.
class CountedTcp(Counted, Connection):  # type: ignore[misc]
    """`redis://`."""


class CountedTls(Counted, SSLConnection):  # type: ignore[misc]
    """`rediss://`."""


class CountedUnix(Counted, UnixDomainSocketConnection):  # type: ignore[misc]
    """`unix://`."""


class CountedSentinel(Counted, SentinelManagedConnection):  # type: ignore[misc]
    """`redis+sentinel://`: to the server that Sentinel names."""


_CONNECTIONS = {"rediss": CountedTls, "unix": CountedUnix}
"""By the scheme of the URL; any other is TCP's."""


def connect(
    settings: ServiceSettings,
    *,
    read_seconds: float | None = -1.0,
    connections: int | None = None,
    refusals: Refusals | None = None,
) -> Redis:
    """A client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,host:port/<service>/<db>`.

    `read_seconds=None` is for subscriptions, whose caller keeps time itself. What Redis refuses is kept in `refusals`.
    """
    url = settings.redis_url.get_secret_value()
    timeout = settings.redis_timeout_seconds
    options: dict[str, Any] = {
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout if read_seconds == -1.0 else read_seconds,
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,  # else each new connection tells them in two more round trips
        "lib_version": None,
        "refusals": refusals or Refusals(),
    }
    if url.startswith("redis+sentinel://"):
        parts = urlsplit(url.replace("redis+sentinel://", "redis://", 1))
        hosts = [
            (h.rpartition(":")[0] or h, int(h.rpartition(":")[2] or 26379))
            for h in parts.netloc.rpartition("@")[2].split(",")
        ]
        service, _, db = parts.path.strip("/").partition("/")
        login = {"username": parts.username, "password": parts.password}
        login = {name: unquote(value) for name, value in login.items() if value}
        sentinel = Sentinel(hosts, socket_timeout=timeout, **login)
        options |= {"socket_keepalive": True, "connection_class": CountedSentinel}
        return sentinel.master_for(service or "mymaster", db=int(db or 0), **options)
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections or settings.redis_max_connections,
        timeout=settings.redis_patience_seconds,
        **options,
    )
    # Not by an argument: what the URL says, and with it the scheme's own class, would win.
    pool.connection_class = _CONNECTIONS.get(url.partition("://")[0], CountedTcp)
    return Redis(connection_pool=pool)


async def retry_while_unavailable(call: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """`await call()`, again and again while Redis is away, for `seconds` at most; then its last error comes out.

    The call must be safe to repeat: after a lost reply nobody knows whether it was carried out.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, 0.05
    while True:
        try:
            return await call()
        except REDIS_UNAVAILABLE:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter, not a secret
        pause = min(1.0, pause * 2)
