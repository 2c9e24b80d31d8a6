"""The upkeep of queue, logs and executions, by the process that sweeps, but apart from the sweep.

A slow engine or log store must neither delay the search for dead processes nor the admission of builds.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.queue.attempts import Attempts, build_id_of, build_topic
from services.builder.queue.builds import Builds
from services.builder.queue.dispatch import Dispatcher
from services.builder.queue.leftovers import Leftovers
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from services.common.records.leases import ServiceMember
from services.common.records.stored_record import RecordUnreadable, is_public
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.redis.keys import Topic
from services.common.redis.wrong_type import read_fields
from services.common.service.clock import clock
from services.common.service.each import for_each
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.streams.log_store import stream_entries

log = get_logger(__name__)

_MILLISECONDS = re.compile(rb"\d{1,15}")


class Cleanup:
    """What is done for builds that have waited too long, or have ended. Every step may be repeated."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        settings: BuilderSettings,
        attempts: Attempts,
        builds: Builds,
        dispatcher: Dispatcher,
        leftovers: Leftovers,
    ) -> None:
        self._context = context
        self._settings = settings
        self._attempts = attempts
        self._builds = builds
        self._dispatcher = dispatcher
        self._leftovers = leftovers
        self._redis = context.redis
        self._keys = context.keys

    async def run(self, member: ServiceMember) -> None:
        """Take each step in a loop of its own while `member` is the sweeper, until cancelled."""

        async def repeat(
            name: str, step: Callable[[], Awaitable[None]], *, retry_max_seconds: float | None = None
        ) -> None:
            async def step_if_sweeper() -> None:
                if member.is_sweeper:
                    await step()

            unavailable = (*REDIS_PY_UNAVAILABLE, ExecutorUnavailableError)
            wait_seconds = self._context.settings.sweep_interval_seconds
            await run_forever(
                step_if_sweeper, name=name, wait=wait_seconds, unavailable=unavailable,
                retry_max_seconds=retry_max_seconds,
            )  # fmt: skip

        relist_seconds = self._settings.relist_seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(repeat("expire", self.expire))
            group.create_task(repeat("store_logs", self.store_logs))
            group.create_task(repeat("stale_jobs", self._dispatcher.drop_stale))
            group.create_task(repeat("leftovers", self._leftovers.stop_if_due, retry_max_seconds=relist_seconds))

    async def expire(self) -> None:
        """Fail builds that have waited too long for a slot."""
        oldest_seconds = (await self._builds.queue(with_names=False)).oldest_waiting_seconds or 0.0
        if oldest_seconds <= self._settings.build_queue_max_seconds:
            return

        waiting = await self._redis.zrange(self._keys("{queue}:waiting"), 0, -1)
        await for_each(waiting, self._expire_one, unavailable=REDIS_PY_UNAVAILABLE)

    async def _expire_one(self, name: bytes) -> None:
        build_id = build_id_of(name) or ""
        record = self._keys.record(build_topic(build_id))
        version, queued_ms = await read_fields(self._redis, record, "v", "queued_ms")
        if version is None:  # its record is lost, so it would get no slot either
            await self._redis.zrem(self._keys("{queue}:waiting"), name)
            return

        queued_at = int(queued_ms) / 1000 if queued_ms and _MILLISECONDS.fullmatch(queued_ms) else 0.0
        max_seconds = self._settings.build_queue_max_seconds
        if clock.now() - queued_at <= max_seconds:
            return

        stored = await self._attempts.read_readable(build_id)
        waited_seconds = clock.now() - (queued_at or stored.build.created_at) if stored else 0.0
        if stored and waited_seconds > max_seconds:
            error = BinderyError("build_queue_full", f"No builder became free within {waited_seconds:.0f} s.")
            await self._attempts.end_queued(stored.build, BuildState.FAILED, error)

    async def store_logs(self) -> None:
        """Store the logs of builds that have ended and whose workers did not store them."""
        unstored = await self._redis.smembers(self._keys("{queue}:unstored"))
        await for_each(unstored, self._store_one, unavailable=REDIS_PY_UNAVAILABLE)

    async def _store_one(self, name: bytes) -> None:
        if build_id := build_id_of(name):
            await self.store_log(build_id)
        else:
            await self._redis.srem(self._keys("{queue}:unstored"), name)

    async def store_log(self, build_id: str) -> None:
        """Move the log of a build that has ended to the log store, and remove its credentials.

        Its stream expires soon after.
        """
        topic = build_topic(build_id)
        if entries := await stream_entries(self._redis, self._keys, topic):
            await self._context.logs.put(build_id, entries, is_public=await self._is_public(topic))
        (credentials,) = await read_fields(self._redis, self._keys.record(topic), "credentials")
        await self._context.git_credentials.remove(*(credentials or b"").decode().split())

        async with self._redis.pipeline() as pipe:
            pipe.pexpire(self._keys.events(topic), int(self._settings.finished_stream_seconds * 1000))
            pipe.srem(self._keys("{queue}:unstored"), build_id)
            await pipe.execute()

    async def _is_public(self, topic: Topic) -> bool:
        try:
            record = await self._context.records.read(topic)
        except RecordUnreadable:
            return False
        return record is not None and is_public(record)
