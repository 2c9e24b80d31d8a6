"""Addresses of Redis, as `BINDERY_REDIS_URL` has them; those with Sentinel are taken apart here."""

from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from services.common.models.errors import BinderyError

DIRECT_SCHEMES = ("redis", "rediss", "unix")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379

_SHAPE = "redis://<user>:<password>@<host>:6379/<database>"
_SENTINEL_SHAPE = "redis+sentinel://<user>:<password>@<sentinel>:26379,<sentinel>:26379/<master>/<database>"


class ServerAddress(NamedTuple):
    """Host and port of a Redis or a Sentinel."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class SentinelUrl:
    """What a URL of Redis behind Sentinel says."""

    sentinels: tuple[ServerAddress, ...]
    master_name: str
    has_tls: bool
    """Whether Redis and the Sentinels are both reached by TLS."""
    options: dict[str, Any]
    """Options of connections to Redis: user, password, database, and what the query says."""

    @property
    def tls_options(self) -> dict[str, Any]:
        """Options that Redis and the Sentinels have in common: whose certificates are trusted, and our own."""
        return {name: value for name, value in self.options.items() if name.startswith("ssl_")}


def scheme_of(url: str) -> str:
    """Return the scheme of a URL of Redis. Raise `BinderyError` for one that is none."""
    scheme = url.partition("://")[0]
    if scheme not in (*DIRECT_SCHEMES, *SENTINEL_SCHEMES):
        schemes = ", ".join(f"{name}://" for name in (*DIRECT_SCHEMES, *SENTINEL_SCHEMES))
        raise BinderyError("internal", f"BINDERY_REDIS_URL has to begin with one of these: {schemes}.")
    return scheme


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Return the parts of a URL, decoded. Raise `BinderyError` for a wrong one; its sentence quotes nothing of it."""
    scheme = scheme_of(url)
    base = "rediss" if scheme.startswith("rediss") else "redis"
    try:
        parts = urlsplit(f"redis://{url.partition('://')[2]}")
        login, _, hosts = parts.netloc.rpartition("@")
        master_name, _, database = unquote(parts.path.strip("/")).partition("/")
        options = dict(parse_url(f"{base}://{login}{'@' * bool(login)}localhost?{parts.query}"))
    except ValueError:
        raise wrong_url("it can't be taken apart") from None

    if database and not database.isdecimal():
        raise wrong_url("after the name of the master comes the number of the database, and nothing else")
    options = {"db": int(database or 0)} | options
    for chosen_here in ("host", "connection_class"):
        options.pop(chosen_here, None)

    sentinels = tuple(_address(host) for host in hosts.split(","))
    return SentinelUrl(
        sentinels=sentinels, master_name=master_name or "mymaster", has_tls=base == "rediss", options=options
    )


def _address(host: str) -> ServerAddress:
    try:
        parts = urlsplit(f"redis://{host}")
        if not parts.hostname or parts.port == 0:
            raise ValueError
        return ServerAddress(unquote(parts.hostname), parts.port or SENTINEL_PORT)
    except ValueError:
        raise wrong_url("each Sentinel needs a host, and a port unless that is 26379") from None


def wrong_url(why: str) -> BinderyError:
    """Return the error for a URL of Redis that makes no sense."""
    advice = f"It has the shape {_SHAPE}, or with Sentinel {_SENTINEL_SHAPE}; letters such as / and @ in a password "
    return BinderyError("internal", f"BINDERY_REDIS_URL makes no sense: {why}. {advice}are percent-encoded.")
