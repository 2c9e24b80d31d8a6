"""The connection to Redis: timeouts on every call, a bounded pool, and a count of round trips."""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
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
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.common.counting import counted_as, doing
from services.common.redis_rights import Refusals, Telling
from services.common.settings import ServiceSettings

T = TypeVar("T")

REDIS_AWAY = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
AWAY = (*REDIS_AWAY, ConnectionError, TimeoutError)
"""What a Redis that restarts or fails over looks like from here: wait and ask again."""

ROUND_TRIPS = Counter(
    "bindery_redis_round_trips_total", "Writes to a Redis connection: one a command or pipeline", ["doing"]
)


class Counted(Telling):
    """What every kind of connection has: it counts what is sent. A pipeline is one round trip."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        ROUND_TRIPS.labels(doing()).inc()
        await super().send_packed_command(command, check_health)  # type: ignore[misc]

    async def on_connect(self) -> None:
        with counted_as("connect"):
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


async def patiently(call: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """`await call()`, again and again while Redis is away, for `seconds` at most; then its last error comes out.

    The call must be safe to repeat: after a lost reply nobody knows whether it was carried out.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, 0.05
    while True:
        try:
            return await call()
        except AWAY:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter, not a secret
        pause = min(1.0, pause * 2)


_SHARED = re.compile(r"\A-- shared (\w+)\n")
_READS = re.compile(r"^-- reads only$", re.MULTILINE)


def _with_shared(source: str) -> str:
    """A script, behind the functions that it shares with others, if its first line names some: Lua in Redis can't."""
    if (found := _SHARED.match(source)) is None:
        return source
    return (files("services.common.scripts") / "shared" / f"{found[1]}.lua").read_text() + source


class Scripts:
    """Lua scripts of a package, run by their hash and loaded where Redis doesn't know them.

    One that begins with `-- shared <name>` may call the functions of `services/common/scripts/shared/<name>.lua`. One
    that says `-- reads only` is run as such, so that who may only read its keys may run it.
    """

    def __init__(self, redis: Redis, package: str) -> None:
        self._redis = redis
        self._source = {
            p.name.removesuffix(".lua"): _with_shared(p.read_text())
            for p in files(package).iterdir()
            if p.name.endswith(".lua")
        }
        self._sha: dict[str, str] = {}
        self._reading = {name for name, source in self._source.items() if _READS.search(source)}

    async def load(self) -> None:
        """Load every script; done at start, so that no launch pays for it."""
        for name, source in self._source.items():
            self._sha[name] = await self._redis.script_load(source)

    def sha(self, name: str) -> str:
        """The hash of a script."""
        return self._sha.get(name) or hashlib.sha1(self._source[name].encode(), usedforsecurity=False).hexdigest()

    async def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script by name. Raises what Redis raises, but for a missing script, which is loaded."""
        try:
            return await self.call(self._redis, name, keys, args)
        except NoScriptError:
            self._sha[name] = await self._redis.script_load(self._source[name])
            return await self.call(self._redis, name, keys, args)

    def call(self, client: Redis, name: str, keys: list[str], args: list[Any]) -> Any:
        """Ask a client, or a pipeline, to run a script that Redis knows already."""
        ask = client.evalsha_ro if name in self._reading else client.evalsha
        return ask(self.sha(name), len(keys), *keys, *args)


async def run_together(redis: Redis, calls: list[tuple[Scripts, str, list[str], list[Any]]]) -> list[Any]:
    """Run several scripts in one round trip, in order. Raises the first error, after trying a missing script alone."""
    async with redis.pipeline(transaction=False) as pipe:
        for scripts, name, keys, args in calls:
            scripts.call(pipe, name, keys, args)
        answers = await pipe.execute(raise_on_error=False)
    for at, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            scripts, name, keys, args = calls[at]
            answers[at] = await scripts.run(name, keys, args)
        elif isinstance(answer, Exception):
            raise answer
    return list(answers)
