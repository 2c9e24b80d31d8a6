"""Admission: the one builder process that holds the sweep lease gives slots to waiting builds, and cleans up."""

import asyncio
import json
import time

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from prometheus_client import Gauge

from services.builder.executors.base import Attempt, Executor
from services.builder.queue.attempts import Attempts, topic_of
from services.builder.queue.builds import Builds
from services.builder.queue.jobs import SUPERVISE, build_of, is_fresh, job_id, open_queue
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import RECORD_VERSION, BuildState
from services.common.models.errors import BinderyError
from services.common.records.leases import StageMember
from services.common.records.stored_record import is_public
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.scripts import ScriptArg
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.log_store import stream_entries

log = get_logger(__name__)

WAITING = Gauge("bindery_builds_waiting", "Builds that wait for a slot")
RUNNING = Gauge("bindery_builds_running", "Builds that have a slot")
OLDEST = Gauge("bindery_builds_oldest_waiting_seconds", "How long the oldest waiting build has waited, in seconds")

EPOCHS_FORGOTTEN = 50
"""How far back a build's jobs are looked for: each adoption forgets those before it."""
LEFT_SECONDS = 5.0
"""How long a job is left to whom it was offered: workers with a free slot (a fresh one), or who began it."""


class Admission:
    """Moves builds from the queue to the workers; every step may be repeated, and is, each second."""

    def __init__(
        self, context: ProcessContext, settings: BuilderSettings, attempts: Attempts, builds: Builds, executor: Executor
    ) -> None:
        self._context, self._settings, self._executor = context, settings, executor
        self._relist_due = 0.0
        self._moved = asyncio.Event()
        self._attempts, self._builds = attempts, builds
        self._keys = context.keys
        self._arq = open_queue(context)

    async def sweep(self) -> None:
        """One round: admit, hand to workers what has no owner, stop what nobody waits for, tidy up."""
        steps = [
            self.admit,
            self._offer_all,
            self._stop_abandoned,
            self._expire,
            self._store_logs,
            self._drop_stale_jobs,
        ]
        if time.monotonic() > self._relist_due:
            self._relist_due = time.monotonic() + self._settings.relist_seconds
            steps.append(self._relist)
        for step in steps:
            try:
                await step()
            except REDIS_UNAVAILABLE:
                raise
            except Exception as error:  # a step that fails must not keep the others from their work
                log.exception("sweep_step_failed", step=step.__name__, error=str(error))

    def heard(self, message: bytes) -> None:
        """Something on the builder's channel: perhaps that a build was queued, or a slot became free."""
        if message in {b"queued", b"slot"}:
            self._moved.set()

    async def admit_when_moved(self, member: StageMember) -> None:
        """Admit as soon as that is heard, in the process that sweeps, until cancelled; what it misses a sweep does."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                if member.is_sweeper:
                    await self.admit()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="admit", error=str(error))
            except Exception as error:  # the next sweep tries again
                log.exception("admission_failed", error=str(error))
            await sleep_unless_cancelled(self._settings.job_poll_seconds)

    async def admit(self) -> None:
        """Give the free slots to the first in the queue, and their jobs to the workers."""
        names = ("waiting", "running", "repos", "version")
        keys = [*(self._keys("{queue}:" + name) for name in names), self._keys("slots"), self._keys("{queue}:limits")]
        args: list[ScriptArg] = [self._settings.build_capacity, self._settings.build_repo_cap, self._keys.prefix]
        waiting, running, *admitted = await self._attempts.scripts.run("admit", keys, args)
        WAITING.set(waiting)
        RUNNING.set(running)
        for build_id in admitted:
            log.info("build_admitted", build_id=build_id.decode())
            await self._offer(build_id.decode())

    async def _offer_all(self) -> None:
        """Enqueue a job for every build that has a slot and no owner."""
        for raw in await self._context.redis.hkeys(self._keys("{queue}:running")):
            await self._offer(raw.decode())

    async def _offer(self, build_id: str) -> None:
        """Enqueue a job for a build that has a slot, if it has no owner. arq ignores an id that it knows."""
        record = self._keys.record(topic_of(build_id))
        owner, epoch, final = await self._context.redis.hmget(record, "owner", "epoch", "final")
        if final == b"1" or epoch is None:
            await self.done(build_id)
        elif owner == b"" and not await self._enqueue(build_id, int(epoch)) and await self._is_left(build_id, epoch):
            log.warning("job_left", build_id=build_id, epoch=int(epoch))
            if raised := await self._attempts.scripts.run("reoffer", [record], [int(epoch)]):
                await self._enqueue(build_id, raised)

    async def _enqueue(self, build_id: str, epoch: int) -> bool:
        argument = json.dumps({"v": RECORD_VERSION, "build_id": build_id, "epoch": epoch})
        job = await self._arq.enqueue_job(SUPERVISE, argument, _job_id=job_id(self._keys.prefix, build_id, epoch))
        return job is not None

    async def _is_left(self, build_id: str, epoch: bytes) -> bool:
        """Whether nobody takes a job by itself: all workers are full, or the one that began it has not gone on."""
        name = job_id(self._keys.prefix, build_id, int(epoch))
        offered_ms = await self._context.redis.zscore(self._keys("{queue}:jobs"), name)
        if offered_ms is not None and time.time() - offered_ms / 1000 < LEFT_SECONDS:
            return False
        return is_fresh(name) or bool(await self._context.redis.exists(in_progress_key_prefix + name))

    async def trouble(self) -> str | None:
        """For health: a sentence when no worker lives, as then nothing is built."""
        offered = [raw.decode() for raw in await self._context.redis.hkeys(self._keys("slots"))]
        alive = offered and await self._context.redis.exists(*(self._keys.alive(process) for process in offered))
        return None if alive else "no worker is alive"

    async def done(self, build_id: str) -> None:
        """A build has ended: free its slot."""
        names = ("waiting", "repos", "version", "abandoned")
        waiting, repos, version, abandoned = (self._keys("{queue}:" + name) for name in names)
        running, unstored = self._keys("{queue}:running"), self._keys("{queue}:unstored")
        keys = [running, self._keys.waiters(build_id), unstored, waiting, repos, version, abandoned]
        await self._attempts.scripts.run("done", keys, [build_id, self._keys.wake("builder")])
        epoch = await self._context.redis.hget(self._keys.record(topic_of(build_id)), "epoch")
        await self.forget_jobs(build_id, int(epoch or 0))

    async def take_job(self, build_id: str, epoch: int) -> None:
        """Take a job that has its worker out of arq's queue.

        There arq would look at it with each poll of each worker, with four commands, for as long as the build runs.
        """
        await self._context.redis.zrem(self._keys("{queue}:jobs"), job_id(self._keys.prefix, build_id, epoch))
        await self.forget_jobs(build_id, epoch - 1)

    async def forget_jobs(self, build_id: str, last_epoch: int) -> None:
        """Remove what arq keeps of a build's jobs up to an epoch: a killed worker's would stay until their timeout."""
        epochs = range(max(1, last_epoch - EPOCHS_FORGOTTEN), last_epoch + 1)
        if names := [job_id(self._keys.prefix, build_id, epoch) for epoch in epochs]:
            await self._drop_jobs(names)

    async def _drop_jobs(self, names: list[str]) -> None:
        prefixes = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
        async with self._context.redis.pipeline() as pipe:
            pipe.zrem(self._keys("{queue}:jobs"), *names)
            pipe.delete(*(prefix + name for name in names for prefix in prefixes))
            await pipe.execute()

    async def _stop_abandoned(self) -> None:
        due = await self._context.redis.zrangebyscore(self._keys("{queue}:abandoned"), "-inf", int(time.time() * 1000))
        for raw in due:
            await self._builds.cancel_unwanted(raw.decode())
            await self._context.redis.zrem(self._keys("{queue}:abandoned"), raw)

    async def _expire(self) -> None:
        oldest = (await self._builds.queue(with_names=False)).oldest_waiting_seconds or 0.0
        OLDEST.set(oldest)
        if oldest <= self._settings.build_queue_max_seconds:
            return
        for raw in await self._context.redis.zrange(self._keys("{queue}:waiting"), 0, -1):
            queued_ms = await self._context.redis.hget(self._keys.record(topic_of(raw.decode())), "queued_ms")
            waited = time.time() - int(queued_ms or 0) / 1000
            if waited > self._settings.build_queue_max_seconds and (found := await self._attempts.read(raw.decode())):
                error = BinderyError("build_queue_full", f"No builder had time for this within {waited:.0f} s.")
                await self._attempts.end_queued(found[0], BuildState.FAILED, error)

    async def _store_logs(self) -> None:
        for raw in await self._context.redis.smembers(self._keys("{queue}:unstored")):
            await self.store_log(raw.decode())

    async def store_log(self, build_id: str) -> None:
        """Move a finished build's log to the log store; its stream goes soon after."""
        topic = topic_of(build_id)
        if entries := await stream_entries(self._context.redis, self._keys, topic):
            found = await self._attempts.read(build_id)
            await self._context.logs.put(build_id, entries, is_public=bool(found and is_public(found[1])))
        async with self._context.redis.pipeline() as pipe:
            pipe.pexpire(self._keys.events(topic), int(self._settings.finished_stream_seconds * 1000))
            pipe.srem(self._keys("{queue}:unstored"), build_id)
            await pipe.execute()

    async def _drop_stale_jobs(self) -> None:
        """Remove jobs whose epoch passed before any worker took them, and what is no job of ours."""
        for raw in await self._context.redis.zrange(self._keys("{queue}:jobs"), 0, -1):
            if (found := build_of(self._keys.prefix, raw)) is None:
                log.warning("job_unknown", name=raw.decode(errors="replace")[:200])
                await self._context.redis.zrem(self._keys("{queue}:jobs"), raw)
                continue
            build_id, epoch = found
            now, final = await self._context.redis.hmget(self._keys.record(topic_of(build_id)), "epoch", "final")
            if final == b"1" or now is None or int(now) != epoch:
                await self._drop_jobs([raw.decode()])

    async def _relist(self) -> None:
        """Stop executions whose attempt has ended: a worker that was paused or killed may have left them."""
        unstored = {raw.decode() for raw in await self._context.redis.smembers(self._keys("{queue}:unstored"))}
        for execution in await self._executor.list():
            found = await self._attempts.read(execution.build_id)
            if found is None:  # no record is no reason: the execution goes on, and its image may be found
                if not execution.is_alive and await self._attempts.is_superseded(execution.build_id):
                    await self._executor.remove(execution.build_id)
                continue
            if found[0].is_live or execution.build_id in unstored:
                continue
            build = found[0]
            if execution.is_alive:
                log.warning("execution_stopped", build_id=execution.build_id, state=build.state)
                await self._executor.stop(
                    Attempt(execution.build_id, build.image, build.repo_url, build.ref, execution.epoch)
                )
            await self._executor.remove(execution.build_id)
