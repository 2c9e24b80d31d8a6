"""The clock of Redis, by which the shared clock of this process is set."""

import time

from redis.asyncio import Redis

from services.common.service.clock import clock
from services.common.service.settings import ServiceSettings


async def set_clock(redis: Redis, settings: ServiceSettings) -> None:
    """Ask Redis for its time and set the shared clock by it.

    INFO has the time since Redis 6, and every user that needs it may run it: TIME would be one more right.
    """
    asked_at = time.monotonic()
    info = await redis.info("server")
    clock.set(
        info["server_time_usec"] / 1e6,
        asked_at=asked_at,
        answered_at=time.monotonic(),
        warn_seconds=settings.clock_offset_warn_seconds,
    )
