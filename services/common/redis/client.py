"""The client of Redis: timeouts on every call and a bounded pool, with one server or behind Sentinel."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.common.redis.connections import TcpConnection, TlsConnection, UnixConnection
from services.common.redis.refused import RedisRefused
from services.common.redis.rights import Refusals
from services.common.redis.sentinel import MasterPool, Sentinels
from services.common.redis.url import SENTINEL_SCHEMES, parse_sentinel_url, scheme_of, wrong_url
from services.common.service.backoff import Backoff
from services.common.service.settings import ServiceSettings

T = TypeVar("T")

REDIS_PY_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, RedisRefused)
"""Errors of a Redis that restarts, fails over or refuses commands for now.

Catch these around code that calls other services, too, whose failures are built-in errors.
"""
REDIS_UNAVAILABLE = (*REDIS_PY_UNAVAILABLE, ConnectionError, TimeoutError)
"""Every error of a Redis that is unavailable for now. Catch these around calls of Redis alone; wait and try again."""

_CONNECTIONS = {"rediss": TlsConnection, "unix": UnixConnection}
"""By the scheme of the URL; any other is TCP's."""


def connect(
    settings: ServiceSettings,
    *,
    read_seconds: float | None = -1.0,
    connections: int | None = None,
    refusals: Refusals | None = None,
) -> Redis:
    """Return a client for `BINDERY_REDIS_URL`, whose pool has `connections` at most and makes callers wait for one.

    `read_seconds=None` waits for a reply without end: for subscriptions, whose caller keeps time itself. `refusals`
    records what Redis refuses. Raise `BinderyError` for a URL that makes no sense.
    """
    url = settings.redis_url.get_secret_value()
    scheme = scheme_of(url)
    timeout = settings.redis_timeout_seconds
    options: dict[str, Any] = {
        "max_connections": connections or settings.redis_max_connections,
        "timeout": settings.redis_patience_seconds,
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout if read_seconds == -1.0 else read_seconds,
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,  # else each new connection tells them in two more round trips
        "lib_version": None,
        "refusals": refusals or Refusals(),
    }
    if scheme != "unix":
        options["socket_keepalive"] = True

    if scheme in SENTINEL_SCHEMES:
        sentinel_url = parse_sentinel_url(url)
        sentinels = Sentinels(sentinel_url, settings)
        options |= sentinel_url.options
        return Redis.from_pool(MasterPool(sentinels=sentinels, has_tls=sentinel_url.has_tls, **options))

    try:
        pool = BlockingConnectionPool.from_url(url, **options)
    except ValueError:  # its sentence may quote a part of the password
        raise wrong_url("it can't be taken apart") from None
    # Not by an argument: what the URL says, and with it the scheme's own class, would win.
    pool.connection_class = _CONNECTIONS.get(scheme, TcpConnection)
    return Redis.from_pool(pool)


async def retry_while_unavailable(
    call: Callable[[], Awaitable[T]], *, seconds: float, unavailable: tuple[type[Exception], ...] = REDIS_UNAVAILABLE
) -> T:
    """Return the result of `call()`, repeated while Redis is unavailable, for `seconds` at most.

    The call must be safe to repeat: after a lost reply it is unknown whether Redis applied it. `unavailable` has the
    errors that say so; one that calls other services, too, takes `REDIS_PY_UNAVAILABLE`. Raise its last error when the
    time is over.
    """
    backoff = Backoff(first_seconds=0.05, longest_seconds=1.0, patience_seconds=seconds)
    while True:
        try:
            return await call()
        except unavailable:
            if not await backoff.sleep():
                raise
