"""What Redis does not let this process do, and which Redis and which user of it will do at all."""

import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from services.common.models.errors import BinderyError
from services.common.redis.users import USERS_FILE
from services.common.service.health import CheckFailure
from services.common.service.logging import get_logger

log = get_logger(__name__)

OLDEST_MAJOR = 7
"""Redis 7.0 is the first with scripts that only read, and with reading and writing as rights of their own."""
REMEMBERED_SECONDS = 60.0
"""How long health tells of a refusal: work that is refused is tried again sooner than that."""


class Refused(NoPermissionError):  # type: ignore[misc]  # redis-py is read as untyped
    """The user of this process lacks a right; the message says whose, and where rights are given."""


@dataclass
class Refusals:
    """The last thing that Redis refused to this process."""

    said: str = ""
    at: float = 0.0

    def note(self, user: str, error: ResponseError) -> Refused:
        """Keep a refusal for health, log one that is new, and return what is to be raised in its place."""
        said = (
            f"Redis does not let its user {user!r} do this ({error}): "
            f"give it the rights that {USERS_FILE} of this release lists: see docs/redis.md."
        )
        if said != self.said:
            log.error("redis_refused", user=user, error=str(error))
        self.said, self.at = said, time.monotonic()
        return Refused(said)

    def trouble(self) -> CheckFailure | None:
        """For health: what was refused lately."""
        if not self.said or time.monotonic() - self.at > REMEMBERED_SECONDS:
            return None
        return CheckFailure(self.said, "Redis does not let this service do all that it has to; its log says more.")


class Telling:
    """A connection that says whose right it is that is lacking, and keeps it in `refusals`."""

    def __init__(self, *args: Any, refusals: Refusals, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refusals = refusals

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            # In a script, Valkey gives the lack of a right no code of its own.
            if isinstance(error, NoPermissionError) or "ACL failure in script" in str(error):
                raise self._refusals.note(getattr(self, "username", None) or "default", error) from None
            raise


def user_of(redis: Redis) -> str:
    """The name of the user that a client connects as."""
    return str(redis.connection_pool.connection_kwargs.get("username") or "default")


def warn_if_shared(redis: Redis) -> None:
    """Log a warning where this process is nobody in particular to Redis, who lets it do everything then."""
    if user_of(redis) == "default":
        log.warning(
            "redis_user_shared",
            advice="All services share one password of Redis, so each can do what any other can: give each a user of "
            f"its own ({USERS_FILE}, docs/redis.md).",
        )


async def refuse_unfit(redis: Redis) -> None:
    """Raise `BinderyError` for a Redis Cluster, where arq's keys and scripts over several nouns can't live, and for a
    Redis older than 7.
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
