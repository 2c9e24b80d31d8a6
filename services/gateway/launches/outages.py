"""Requests to other services that go on after an outage of Redis, however long that takes."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.models.errors import BinderyError
from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger
from services.gateway.backends import RETRYABLE_CODES

log = get_logger(__name__)

T = TypeVar("T")
WasRedisAwaySince = Callable[[float], bool]
"""Returns whether Redis was away at some time since a moment of the monotonic clock."""


async def outlast_outages(call: Callable[[], Awaitable[T]], *, was_redis_away_since: WasRedisAwaySince) -> T:
    """Return the result of `call()`, repeated while it fails because of an outage of Redis; the caller bounds the time.

    `call` gives a service that is unavailable up after a time. One that waits for Redis answers nobody for as long, and
    is not to blame: so after an outage it gets the whole time again. Raise `BinderyError`.
    """
    backoff = Backoff(first_seconds=0.1, longest_seconds=2.0)

    while True:
        began = time.monotonic()
        try:
            return await call()
        except BinderyError as error:
            is_outage = error.has_code("redis_unavailable") or was_redis_away_since(began)
            if not is_outage or error.code not in RETRYABLE_CODES:
                raise
            log.warning("redis_away", doing="request", code=error.code, detail=error.detail)
        await backoff.sleep()
