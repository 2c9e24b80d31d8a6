"""The builder worker: it takes jobs from arq and supervises the builds that they name, many at once.

The compute is in the executor. This process only watches, so it may be killed or paused at any moment.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

from arq.worker import func
from redis.exceptions import ResponseError

from services.builder.context import BuilderContext
from services.builder.queue.attempts import build_topic
from services.builder.queue.jobs import SUPERVISE
from services.builder.worker.slots import SlotWorker
from services.builder.worker.supervision import Supervision
from services.common.models import Build
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.service.backoff import Backoff
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.tasks import cancel_and_wait

log = get_logger(__name__)

NO_LIMIT_OF_JOBS = 10_000
"""Above any number of builds: the slots are the limit, not arq."""
NO_LIMIT_OF_TRIES = 1_000_000
"""A job is tried until its build has ended or has another epoch."""


class BuilderWorker:
    """The supervisions of one worker process."""

    def __init__(self, context: BuilderContext) -> None:
        self._context = context
        self._common = context.common
        self._settings = context.settings
        self._supervisions: dict[str, Supervision] = {}
        self._ended_jobs: set[str] = set()
        """Jobs whose build has ended, and is being tidied up."""
        wake_channel = self._common.keys.wake("builder")
        self.cancel_requests = CancelRequests(self._common.records, Kind.BUILD, wake_channel)

    @property
    def running_count(self) -> int:
        """Number of builds that are supervised here."""
        return len(self._supervisions)

    async def supervise(self, arq_context: dict[str, Any], argument: str) -> None:
        """Run one arq job: claim its build and supervise it to its end.

        Return at once if the job's epoch has passed, or if another worker owns the build.
        """
        job = json.loads(argument)
        build_id = str(job["build_id"])
        epoch = int(job["epoch"])
        topic = build_topic(build_id)
        member = self._context.member

        claim = await self._common.records.adopt(
            "builder", member.process, topic=topic, epoch=epoch, rewrite_if_missing=True
        )
        if claim is None:
            return
        record, stored = claim
        await self._context.dispatcher.take(build_id, epoch)

        with bound_contextvars(build_id=build_id):
            with self._registered(build_id, record, stored) as supervision:
                log.info("build_claimed", build_id=build_id, epoch=epoch, position=stored.get("position"))
                has_ended = await self._run_for_member(topic, supervision)

            if has_ended:
                self._ended_jobs.add(arq_context["job_id"])
                await self._tidy_up(build_id)

    @contextlib.contextmanager
    def _registered(self, build_id: str, record: OwnedRecord, stored: StoredRecord) -> Iterator[Supervision]:
        """Yield the supervision of a claimed build. While the block runs, it counts as running and may be cancelled."""
        cancelled = self.cancel_requests.register(build_id, is_requested=bool(stored.get("cancel")))
        supervision = Supervision(
            context=self._common,
            settings=self._settings,
            executor=self._context.executor,
            images=self._context.images,
            record=record,
            build=stored.model(Build),
            stored=stored,
            cancelled=cancelled,
        )
        self._supervisions[build_id] = supervision
        try:
            yield supervision
        finally:
            self.cancel_requests.unregister(build_id, cancelled)
            if self._supervisions.get(build_id) is supervision:
                del self._supervisions[build_id]

    async def _run_for_member(self, topic: Topic, supervision: Supervision) -> bool:
        """Run a supervision until the build has ended; return False if another worker owns it or the lease is lost."""
        task = asyncio.create_task(supervision.run(), name=f"b:{topic.id}")
        self._context.member.work(topic, _cancel_with(task))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            # Not `cancel_and_wait`: a worker that ends cancels again, and a gather passes that on and waits still.
            await asyncio.gather(task, return_exceptions=True)
            raise

        return not task.cancelled() and task.result()

    async def _tidy_up(self, build_id: str) -> None:
        """Free the slot, store the log and remove the execution of a build that has ended.

        If this fails, the process that sweeps does it.
        """
        await self._context.admission.done(build_id)
        await self._context.admission.store_log(build_id)
        await self._context.executor.remove(build_id)

    def on_message(self, message: bytes) -> None:
        """Act on a message on the builder's channel: it may request the cancellation of a build supervised here."""
        self.cancel_requests.on_message(message)
        self._context.admission.on_message(message)
        self._context.member.wake()

    async def offer_slots(self) -> None:
        """Publish how many builds this process can supervise, under each name that it gets.

        An emptied Redis is told again what this process supervises: that these builds have a slot, and are the current
        attempts at their images. So no second attempt starts beside one of them.
        """
        keys = self._common.keys
        ttl_ms = int(self._settings.attempt_ttl_seconds * 1000)
        async with self._common.redis.pipeline() as pipe:
            pipe.hset(keys("slots"), self._context.member.process, self._settings.build_slots)
            for build_id, supervision in self._supervisions.items():
                image, _, number = build_id.rpartition("-")
                pipe.set(keys.attempt(image), number, px=ttl_ms, nx=True)
                pipe.hsetnx(keys("{queue}:running"), build_id, supervision.repository)
            await pipe.execute()

    async def run_arq(self) -> None:
        """Run arq's loop, and restart it with back-off when Redis is unavailable or refuses a command."""
        backoff = Backoff(first_seconds=0.1, longest_seconds=2.0, jitter=0.0)
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            arq = self._arq_worker()
            try:
                await arq.async_run()
            except (*REDIS_UNAVAILABLE, ResponseError) as error:  # a refusal: no memory, a full disk, a replica
                log.warning("redis_away", doing="jobs", error=str(error))
            finally:
                await cancel_and_wait(*arq.tasks.values())

            backoff.restart_after_run(loop.time() - started)
            await backoff.sleep()

    def _arq_worker(self) -> SlotWorker:
        return SlotWorker(
            [func(self.supervise, name=SUPERVISE)],
            self._common,
            slots=self._settings.build_slots,
            ended_jobs=self._ended_jobs,
            handle_signals=False,
            max_jobs=NO_LIMIT_OF_JOBS,
            queue_read_limit=NO_LIMIT_OF_JOBS,
            max_tries=NO_LIMIT_OF_TRIES,
            job_timeout=self._settings.build_timeout_seconds + 3600,
            poll_delay=self._settings.job_poll_seconds,
            keep_result=0,
            log_results=False,
        )


async def _cancel_with(task: asyncio.Task[bool]) -> None:
    """Wait for a task, and cancel it if this is cancelled, without waiting for its end."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise
