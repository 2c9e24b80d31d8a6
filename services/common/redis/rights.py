"""Rights in Redis: what it refused to this process, and whether the server and the user are fit for use."""

import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from services.common.models.errors import BinderyError
from services.common.redis.refused import as_refused
from services.common.redis.users import USERS_FILE
from services.common.service.health import CheckFailure
from services.common.service.logging import get_logger

log = get_logger(__name__)

OLDEST_MAJOR = 7
"""Redis 7.0 is the first with scripts that only read, and with separate rights to read and to write."""
REMEMBERED_SECONDS = 60.0
"""Time for which the health page shows a refusal; work that was refused is tried again sooner than that."""


class MissingRight(NoPermissionError):  # type: ignore[misc]  # redis-py is read as untyped
    """The Redis user of this process lacks a right; the message names the user and where to grant it."""


@dataclass
class Refusals:
    """The last command that Redis refused to this process."""

    message: str = ""
    refused_at: float = 0.0

    def record(self, user: str, error: ResponseError) -> MissingRight:
        """Record a refusal for the health page, log it if it is new, and return the error to raise in its place."""
        message = (
            f"Redis does not let its user {user!r} do this ({error}): "
            f"give it the rights that {USERS_FILE} of this release lists: see docs/redis.md."
        )
        if message != self.message:
            log.error("redis_refused", user=user, error=str(error))
        self.message = message
        self.refused_at = time.monotonic()
        return MissingRight(message)

    def health_problem(self) -> CheckFailure | None:
        """Return a recent refusal for the health page, or None."""
        if not self.message or time.monotonic() - self.refused_at > REMEMBERED_SECONDS:
            return None
        return CheckFailure(self.message, "Redis does not let this service do all that it has to; its log says more.")


class ReportsRefusals:
    """Part of every kind of connection: it tells refusals apart, and records in `refusals` which user lacks a right."""

    def __init__(self, *args: Any, refusals: Refusals, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refusals = refusals

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raise `MissingRight` if Redis denies a right, `RedisRefused` if it refuses for now."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            # In a script, Valkey reports a missing right without an error code of its own.
            if isinstance(error, NoPermissionError) or "ACL failure in script" in str(error):
                raise self._refusals.record(getattr(self, "username", None) or "default", error) from None
            if refused := as_refused(error):
                raise refused from None
            raise


def user_of(redis: Redis) -> str:
    """Return the name of the user that a client connects as."""
    return str(redis.connection_pool.connection_kwargs.get("username") or "default")


def warn_if_shared(redis: Redis) -> None:
    """Log a warning if this process uses the default user of Redis, which may do everything."""
    if user_of(redis) == "default":
        log.warning(
            "redis_user_shared",
            advice="All services share one password of Redis, or none, so each can do what any other can: give each a "
            f"user of its own ({USERS_FILE}, docs/redis.md).",
        )


async def refuse_unfit(redis: Redis) -> None:
    """Raise `BinderyError` for a Redis Cluster, and for a Redis older than 7; log a warning if it may lose data.

    In a cluster the keys of arq, and of scripts that touch several records, would be on different servers.
    """
    info = await redis.info()
    if info.get("cluster_enabled"):
        raise BinderyError(
            "internal", "Redis Cluster is not supported: use a single Redis or Sentinel (BINDERY_REDIS_URL)."
        )
    version = str(info.get("redis_version", ""))
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST_MAJOR:
        raise BinderyError("internal", f"Redis {version} is too old: {OLDEST_MAJOR}.0 or Valkey (BINDERY_REDIS_URL).")
    if wrong := _wrong_settings(info):
        log.warning("redis_may_lose_data", settings=wrong, advice="See docs/redis.md: Settings of Redis.")


def _wrong_settings(info: dict[str, Any]) -> list[str]:
    """Return the settings by which Redis may lose records of launches and builds, as INFO shows them."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    wrong = [] if policy == "noeviction" else [f"maxmemory-policy {policy}"]
    return wrong if info.get("aof_enabled", 1) else [*wrong, "appendonly no"]
