"""What a process of any stage holds open: Redis, the bus, its records and its lease."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from services.common.records.launch_cache import LaunchCache
from services.common.records.leases import StageMember
from services.common.records.records import Records
from services.common.redis.client import connect, retry_while_unavailable
from services.common.redis.keys import Keys, Kind
from services.common.redis.rights import Refusals, refuse_unfit, warn_if_shared
from services.common.service.health import CheckFailure, Health
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.log_store import LogStore, log_store
from services.common.streams.queue_positions import QueuePositions


@dataclass
class ProcessContext:
    """The open connections of one process."""

    settings: ServiceSettings
    redis: Redis
    keys: Keys
    bus: Bus
    records: Records
    launch_cache: LaunchCache
    logs: LogStore
    lease_redis: Redis
    """Connections apart from those of the work, so that a rush of that keeps no lease from being renewed."""
    queue_positions: QueuePositions

    refusals: Refusals

    async def redis_answers(self) -> CheckFailure | None:
        """A health check: raises when Redis does not answer, and tells of a right that was lacking lately."""
        await self.lease_redis.ping()
        return self.refusals.trouble()


@contextlib.asynccontextmanager
async def open_context(
    settings: ServiceSettings, health: Health | None = None, *, subscribe_all: Collection[Kind] = ()
) -> AsyncIterator[ProcessContext]:
    """Connect, load the scripts, and keep the bus running until the block ends.

    `subscribe_all` names kinds of topics that the bus hears all of, so that following one costs no subscription.
    Waits for a Redis that is not up yet. Raises `BinderyError` for a Redis Cluster, or one that is too old.
    """
    refusals = Refusals()
    redis = connect(settings, refusals=refusals)
    lease_redis = connect(settings, connections=4, refusals=refusals)
    subscriber = connect(settings, read_seconds=None, connections=4, refusals=refusals)
    keys = Keys(settings.key_prefix)
    bus = Bus(
        redis, subscriber, keys,
        reread_seconds=settings.reread_seconds, patience_seconds=settings.redis_patience_seconds,
        renew_seconds=settings.lease_renew_seconds, subscribe_all=subscribe_all,
    )  # fmt: skip
    records = Records(redis, keys, bus=bus, settings=settings)
    launch_cache = LaunchCache(
        redis, keys, ttl_seconds=settings.fact_ttl_seconds, tombstone_seconds=settings.fact_tombstone_seconds
    )
    queue_positions = QueuePositions(
        redis, keys, tick_seconds=settings.queue_tick_seconds, reread_seconds=settings.reread_seconds
    )  # fmt: skip
    context = ProcessContext(
        settings,
        redis,
        keys,
        bus,
        records,
        launch_cache,
        log_store(redis, keys, settings),
        lease_redis,
        queue_positions,
        refusals,
    )
    try:
        warn_if_shared(redis)
        await retry_while_unavailable(lambda: refuse_unfit(redis), seconds=settings.redis_patience_seconds)
        await retry_while_unavailable(records.scripts.load, seconds=settings.redis_patience_seconds)
        if health:
            health.add("Redis", context.redis_answers)
        async with background_tasks(bus.run()):
            yield context
    finally:
        await subscriber.aclose()
        await lease_redis.aclose()
        await redis.aclose()


@contextlib.asynccontextmanager
async def queue_positions_updated(context: ProcessContext) -> AsyncIterator[None]:
    """Keep the places of waiting builds up to date, for who watches them, until the block ends."""
    await context.bus.listen(context.queue_positions.channel, context.queue_positions.on_message)
    async with background_tasks(context.queue_positions.run()):
        yield


@contextlib.asynccontextmanager
async def background_tasks(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run some coroutines for as long as the block; one that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(w) for w in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextlib.asynccontextmanager
async def stage_member(context: ProcessContext, name: str, *, sweeps: bool = True) -> AsyncIterator[StageMember]:
    """Be a member of the stage `name` until the block ends; then hand over at once everything that is owned.

    The lease is held from the beginning of the block. Call `start` on the member in it, when all that adopts and
    sweeps has been made.
    """
    member = StageMember(name, context.lease_redis, context.keys, context.records, context.settings, sweeps=sweeps)
    await retry_while_unavailable(member.begin, seconds=context.settings.redis_patience_seconds)
    await context.bus.listen(context.keys.wake(name), lambda _message: member.wake())
    async with background_tasks(member.run()):
        try:
            yield member
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(context.settings.redis_timeout_seconds):
                    await member.hand_over()
