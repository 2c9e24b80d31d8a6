"""Admission: one builder process, the holder of the sweep lease, gives slots to waiting builds and cleans up."""

import asyncio
import time

from prometheus_client import Gauge

from services.builder.executors.base import Attempt, Execution, Executor
from services.builder.queue.attempts import Attempts, build_topic
from services.builder.queue.builds import Builds
from services.builder.queue.dispatch import Dispatcher
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from services.common.records.leases import ServiceMember
from services.common.records.stored_record import is_public
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.scripts import ScriptArg
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.log_store import stream_entries

log = get_logger(__name__)

BUILDS_WAITING = Gauge("bindery_builds_waiting", "Builds that wait for a slot")
RUNNING = Gauge("bindery_builds_running", "Builds that have a slot")
OLDEST = Gauge("bindery_builds_oldest_waiting_seconds", "How long the oldest waiting build has waited, in seconds")


class Admission:
    """The movement of builds from the queue to the workers. Every step may be repeated, and is, each second."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        settings: BuilderSettings,
        attempts: Attempts,
        builds: Builds,
        executor: Executor,
        dispatcher: Dispatcher,
    ) -> None:
        self._context = context
        self._settings = settings
        self._attempts = attempts
        self._builds = builds
        self._executor = executor
        self._dispatcher = dispatcher
        self._redis = context.redis
        self._keys = context.keys
        self._queue_changed = asyncio.Event()
        self._relist_due = 0.0

    # When

    async def sweep(self) -> None:
        """Do one round: admit, dispatch builds without an owner, stop abandoned builds, clean up."""
        steps = [
            self.admit,
            self._offer_all,
            self._stop_abandoned,
            self._expire,
            self._store_logs,
            self._dispatcher.drop_stale,
        ]
        if time.monotonic() > self._relist_due:
            self._relist_due = time.monotonic() + self._settings.relist_seconds
            steps.append(self._stop_leftovers)

        for step in steps:
            try:
                await step()
            except REDIS_UNAVAILABLE:
                raise
            except Exception as error:  # a step that fails must not keep the others from their work
                log.exception("sweep_step_failed", step=step.__name__, error=str(error))

    def on_message(self, message: bytes) -> None:
        """Note a message on the builder's channel which says that a build was queued, or that a slot became free."""
        if message in {b"queued", b"slot"}:
            self._queue_changed.set()

    async def admit_on_change(self, member: ServiceMember) -> None:
        """Admit as soon as the queue changes, while `member` is the sweeper; until cancelled.

        A message that is missed costs no more than the time to the next sweep.
        """
        while True:
            await self._queue_changed.wait()
            self._queue_changed.clear()
            try:
                if member.is_sweeper:
                    await self.admit()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="admit", error=str(error))
            except Exception as error:  # the next sweep tries again
                log.exception("admission_failed", error=str(error))
            await sleep_unless_cancelled(self._settings.job_poll_seconds)

    async def health_problem(self) -> str | None:
        """Return a sentence for health if no worker is alive, as then nothing is built."""
        workers = [raw.decode() for raw in await self._redis.hkeys(self._keys("slots"))]
        is_alive = workers and await self._redis.exists(*(self._keys.alive(worker) for worker in workers))
        return None if is_alive else "no worker is alive"

    # From the queue to a worker

    async def admit(self) -> None:
        """Give the free slots to the first builds in the queue, and hand these over to workers."""
        names = ("waiting", "running", "repos", "version")
        keys = [*(self._keys("{queue}:" + name) for name in names), self._keys("slots"), self._keys("{queue}:limits")]
        args: list[ScriptArg] = [self._settings.build_capacity, self._settings.build_repo_cap, self._keys.prefix]
        waiting, running, *admitted = await self._attempts.scripts.run("admit", keys, args)

        BUILDS_WAITING.set(waiting)
        RUNNING.set(running)
        for build_id in admitted:
            log.info("build_admitted", build_id=build_id.decode())
            await self._offer(build_id.decode())

    async def _offer_all(self) -> None:
        """Offer every build that has a slot and no owner to the workers."""
        for raw in await self._redis.hkeys(self._keys("{queue}:running")):
            await self._offer(raw.decode())

    async def _offer(self, build_id: str) -> None:
        """Offer a build that has a slot to the workers, if it has no owner; free its slot if it has ended."""
        record = self._keys.record(build_topic(build_id))
        owner, epoch, final = await self._redis.hmget(record, "owner", "epoch", "final")
        if final == b"1" or epoch is None:
            await self.done(build_id)
        elif owner == b"":
            await self._dispatcher.offer(build_id, int(epoch))

    # The end of a build

    async def done(self, build_id: str) -> None:
        """Free the slot of a build that has ended."""
        names = ("waiting", "repos", "version", "abandoned")
        waiting, repos, version, abandoned = (self._keys("{queue}:" + name) for name in names)
        running = self._keys("{queue}:running")
        unstored = self._keys("{queue}:unstored")
        keys = [running, self._keys.waiters(build_id), unstored, waiting, repos, version, abandoned]
        await self._attempts.scripts.run("done", keys, [build_id, self._keys.wake("builder")])

    async def store_log(self, build_id: str) -> None:
        """Move the log of a build that has ended to the log store; its stream expires soon after."""
        topic = build_topic(build_id)
        if entries := await stream_entries(self._redis, self._keys, topic):
            record = await self._context.records.read(topic)
            await self._context.logs.put(build_id, entries, is_public=bool(record and is_public(record)))

        async with self._redis.pipeline() as pipe:
            pipe.pexpire(self._keys.events(topic), int(self._settings.finished_stream_seconds * 1000))
            pipe.srem(self._keys("{queue}:unstored"), build_id)
            await pipe.execute()

    # Cleaning up

    async def _stop_abandoned(self) -> None:
        """Cancel builds that no launch has waited for since the end of their grace."""
        now_ms = int(clock.now() * 1000)
        for raw in await self._redis.zrangebyscore(self._keys("{queue}:abandoned"), "-inf", now_ms):
            await self._builds.cancel_if_abandoned(raw.decode())

    async def _expire(self) -> None:
        """Fail builds that have waited too long for a slot."""
        oldest_seconds = (await self._builds.queue(with_names=False)).oldest_waiting_seconds or 0.0
        OLDEST.set(oldest_seconds)
        if oldest_seconds <= self._settings.build_queue_max_seconds:
            return

        for raw in await self._redis.zrange(self._keys("{queue}:waiting"), 0, -1):
            build_id = raw.decode()
            queued_ms = await self._redis.hget(self._keys.record(build_topic(build_id)), "queued_ms")
            waited_seconds = clock.now() - int(queued_ms or 0) / 1000
            if waited_seconds <= self._settings.build_queue_max_seconds:
                continue
            if stored := await self._attempts.read_readable(build_id):
                error = BinderyError("build_queue_full", f"No builder became free within {waited_seconds:.0f} s.")
                await self._attempts.end_queued(stored.build, BuildState.FAILED, error)

    async def _store_logs(self) -> None:
        for raw in await self._redis.smembers(self._keys("{queue}:unstored")):
            await self.store_log(raw.decode())

    async def _stop_leftovers(self) -> None:
        """Stop and remove executions whose attempt has ended: a worker that was paused or killed may leave them."""
        unstored = {raw.decode() for raw in await self._redis.smembers(self._keys("{queue}:unstored"))}
        for execution in await self._executor.list():
            await self._stop_leftover(execution, is_unstored=execution.build_id in unstored)

    async def _stop_leftover(self, execution: Execution, *, is_unstored: bool) -> None:
        record = await self._context.records.read(build_topic(execution.build_id))
        if record is None:
            # A missing record alone is not a reason to stop it: the execution goes on, and may yield its image.
            if not execution.is_alive and await self._attempts.is_superseded(execution.build_id):
                await self._executor.remove(execution.build_id)
            return

        if record.get("final") != "1" or is_unstored:
            return
        if execution.is_alive:
            log.warning("execution_stopped", build_id=execution.build_id, state=record.get("state"))
            # Stopping needs no more than id and epoch, and the rest may be what can't be read.
            build_id = execution.build_id
            attempt = Attempt(build_id=build_id, image="", repo_url="", ref="", epoch=execution.epoch)
            await self._executor.stop(attempt)
        await self._executor.remove(execution.build_id)
