"""The context of one process: its connections to Redis, what is built on them, and its membership in a service."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from redis.asyncio import Redis

from services.common.records.git_credentials import GitCredentials
from services.common.records.launch_cache import LaunchCache
from services.common.records.leases import ServiceMember
from services.common.records.records import Records
from services.common.redis.client import REDIS_UNAVAILABLE, connect
from services.common.redis.health import redis_failure
from services.common.redis.keys import Keys, Kind
from services.common.redis.rights import Refusals, refuse_unfit, warn_if_shared
from services.common.redis.waiting import wait_for_redis
from services.common.service.clock import clock
from services.common.service.health import CheckFailure, Health
from services.common.service.logging import get_logger
from services.common.service.loops import background_tasks, run_forever
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.log_store import LogStore, log_store
from services.common.streams.queue_positions import QueuePositions

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProcessContext:
    """Everything that one process holds open; made by `open_context` and by nothing else."""

    settings: ServiceSettings
    """Settings that all services have."""
    redis: Redis
    """Connections for the work."""
    lease_redis: Redis
    """Connections for leases, health and the like: a rush of work must not keep a lease from being renewed."""
    subscriber: Redis
    """Connections for the bus's subscriptions."""
    refusals: Refusals
    """Last right that Redis denied to this process."""
    keys: Keys
    """Names of keys and channels of this installation."""
    bus: Bus
    """Event streams that are followed in this process."""
    records: Records
    """Records of builds, launches and servers."""
    launch_cache: LaunchCache
    """Answers that the next launch of a link can use."""
    git_credentials: GitCredentials
    """Credentials that came with launches, for their builds."""
    logs: LogStore
    """Logs of finished builds."""
    queue_positions: QueuePositions
    """Positions of builds that wait for a slot."""

    async def redis_answers(self) -> CheckFailure | None:
        """Check Redis for the health page."""
        return await redis_failure(self.lease_redis, self.refusals, self.settings)

    async def set_clock(self) -> None:
        """Set the shared clock by that of Redis.

        INFO has the time since Redis 6, and every user that needs it may run it: TIME would be one more right.
        """
        asked_at = time.monotonic()
        info = await self.lease_redis.info("server")
        clock.set(
            info["server_time_usec"] / 1e6,
            asked_at=asked_at,
            answered_at=time.monotonic(),
            warn_seconds=self.settings.clock_offset_warn_seconds,
        )

    async def aclose(self) -> None:
        """Close all connections to Redis."""
        await self.subscriber.aclose()
        await self.lease_redis.aclose()
        await self.redis.aclose()


@contextlib.asynccontextmanager
async def open_context(
    settings: ServiceSettings, health: Health | None = None, *, subscribe_all: Collection[Kind] = ()
) -> AsyncIterator[ProcessContext]:
    """Connect to Redis, load the scripts, and keep the bus running until the block ends.

    The bus subscribes once to all topics of the kinds in `subscribe_all`, so that following one of them costs no
    subscription. Wait without end for a Redis that is not up yet, or refuses the login. Raise `BinderyError` for a
    Redis Cluster, and for a Redis that is too old.
    """
    context = _make_context(settings, subscribe_all)
    try:
        warn_if_shared(context.redis)
        await wait_for_redis(lambda: refuse_unfit(context.redis), settings)
        await wait_for_redis(context.records.scripts.load, settings)
        await wait_for_redis(context.set_clock, settings)
        if health:
            health.add("Redis", context.redis_answers)

        follow_clock = run_forever(
            context.set_clock, name="clock", wait=settings.clock_interval_seconds, unavailable=REDIS_UNAVAILABLE
        )
        async with background_tasks(context.bus.run(), follow_clock):
            yield context
    finally:
        await context.aclose()


def _make_context(settings: ServiceSettings, subscribe_all: Collection[Kind]) -> ProcessContext:
    refusals = Refusals()
    redis = connect(settings, refusals=refusals)
    lease_redis = connect(settings, connections=4, refusals=refusals)
    subscriber = connect(settings, read_seconds=None, connections=4, refusals=refusals)

    keys = Keys(settings.key_prefix)
    bus = Bus(
        redis=redis, subscriber=subscriber, keys=keys,
        heartbeat_seconds=settings.heartbeat_seconds, reread_seconds=settings.reread_seconds,
        patience_seconds=settings.redis_patience_seconds,
        lost_check_seconds=settings.lost_check_seconds, subscribe_all=subscribe_all,
    )  # fmt: skip
    launch_cache = LaunchCache(
        redis, keys, ttl_seconds=settings.fact_ttl_seconds, tombstone_seconds=settings.fact_tombstone_seconds
    )
    queue_positions = QueuePositions(
        redis, keys, tick_seconds=settings.queue_tick_seconds, reread_seconds=settings.reread_seconds
    )
    return ProcessContext(
        settings=settings,
        redis=redis,
        lease_redis=lease_redis,
        subscriber=subscriber,
        refusals=refusals,
        keys=keys,
        bus=bus,
        records=Records(redis, keys, bus=bus, settings=settings),
        launch_cache=launch_cache,
        git_credentials=GitCredentials(redis, keys, settings),
        logs=log_store(redis, keys, settings),
        queue_positions=queue_positions,
    )


@contextlib.asynccontextmanager
async def queue_positions_updated(context: ProcessContext) -> AsyncIterator[None]:
    """Keep the queue positions that are watched up to date until the block ends."""
    context.bus.on_loss(context.queue_positions.on_loss)
    await context.bus.listen(context.queue_positions.channel, context.queue_positions.on_message)
    async with background_tasks(context.queue_positions.run()):
        yield


@contextlib.asynccontextmanager
async def service_member(context: ProcessContext, name: str, *, sweeps: bool = True) -> AsyncIterator[ServiceMember]:
    """Make this process a member of the service `name`; when the block ends, hand over all that it owns at once.

    A hand-over that fails is logged: others take over what this process owned once its lease has run out. The lease
    is held from the beginning of the block. The caller calls `start` on the member, once the objects exist whose
    methods adopt and sweep.
    """
    member = ServiceMember(
        name, redis=context.lease_redis, keys=context.keys, records=context.records, settings=context.settings,
        sweeps=sweeps,
    )  # fmt: skip

    await wait_for_redis(member.take_lease, context.settings)
    await context.bus.listen(context.keys.wake(name), lambda _message: member.wake())

    async with background_tasks(member.run()):
        try:
            yield member
        finally:
            try:
                async with asyncio.timeout(context.settings.hand_over_seconds):
                    await member.hand_over()
            except Exception as error:  # noqa: BLE001 - whatever it is, the process ends
                log.warning("hand_over_failed", process=member.process, error=f"{type(error).__name__}: {error}")
