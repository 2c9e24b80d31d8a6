"""The builder worker: it claims the builds that arq's jobs name, and supervises them, many at once.

The compute is in the executor. This process only watches, so it may be killed or paused at any moment.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from services.builder.context import BuilderContext
from services.builder.queue.attempts import build_topic
from services.builder.worker.job_poller import JobPoller
from services.builder.worker.pushes import Pushes
from services.builder.worker.supervision import Supervision
from services.common.models import Build
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import cancel_and_wait

log = get_logger(__name__)


class BuilderWorker:
    """The supervisions of one worker process."""

    def __init__(self, context: BuilderContext) -> None:
        self._context = context
        self._common = context.common
        self._settings = context.settings
        self._supervisions: dict[str, Supervision] = {}
        self.pushes = Pushes(shown_seconds=context.settings.push_refusal_shown_seconds)
        """How this worker's builds could push their images."""
        wake_channel = self._common.keys.wake("builder")
        self.cancel_requests = CancelRequests(self._common.records, Kind.BUILD, wake_channel)

    @property
    def running_count(self) -> int:
        """Number of builds that are supervised here."""
        return len(self._supervisions)

    async def supervise(self, _arq_context: dict[str, Any], argument: str) -> None:
        """Run one arq job: claim its build, and begin to supervise it as work of this process.

        Do nothing if the job's epoch has passed, or if another worker owns the build. If this is cancelled when Redis
        has applied the claim already, the member of the service finds a record without work, and releases it.
        """
        job = json.loads(argument)
        topic = build_topic(str(job["build_id"]))
        claim = await self._common.records.adopt(
            "builder", self._context.member.process, topic=topic, epoch=int(job["epoch"])
        )
        if claim:
            self._context.member.work(topic, self._supervise(*claim))

    async def _supervise(self, record: OwnedRecord, stored: StoredRecord) -> None:
        """Supervise a claimed build to its end.

        If this is cancelled after the end was recorded, the process that sweeps tidies up.
        """
        build_id = record.topic.id
        with bound_contextvars(build_id=build_id):
            with self._registered(build_id, record, stored) as supervision:
                log.info("build_claimed", build_id=build_id, epoch=record.epoch, position=stored.get("position"))
                has_ended = await supervision.run()

            if has_ended:
                self.pushes.note(supervision.build)
                await self._tidy_up(build_id)

    @contextlib.contextmanager
    def _registered(self, build_id: str, record: OwnedRecord, stored: StoredRecord) -> Iterator[Supervision]:
        """Yield the supervision of a claimed build. While the block runs, it uses a slot and may be cancelled."""
        cancelled = self.cancel_requests.register(build_id, is_requested=bool(stored.get("cancel")))
        try:
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
            yield supervision
        finally:
            self.cancel_requests.unregister(build_id, cancelled)
            current = self._supervisions.get(build_id)
            if current and current.cancelled is cancelled:
                del self._supervisions[build_id]

    async def _tidy_up(self, build_id: str) -> None:
        """Free the slot, store the log and remove the execution of a build that has ended.

        If this fails, the process that sweeps does it.
        """
        await self._context.admission.done(build_id)
        await self._context.cleanup.store_log(build_id)
        await self._context.executor.remove(build_id)

    def on_message(self, message: bytes) -> None:
        """Act on a message on the builder's channel: it may request the cancellation of a build supervised here."""
        self.cancel_requests.on_message(message)
        self._context.admission.on_message(message)
        self._context.member.wake()

    async def offer_slots(self) -> None:
        """Publish how many builds this process can supervise, whenever it takes its lease.

        Write again, for a Redis that was emptied, that the builds supervised here have a slot, and are the current
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
        """Begin the builds that are offered to this process, until cancelled. No build ends because Redis is away."""
        await run_forever(self._poll_jobs, name="jobs", at_once=True, unavailable=REDIS_UNAVAILABLE, is_session=True)

    async def _poll_jobs(self) -> None:
        """Run arq's loop until Redis is unavailable, or refuses a command."""
        poller = JobPoller(
            self.supervise,
            self._common,
            slots=self._settings.build_slots,
            supervised=self._supervisions.keys(),
            poll_seconds=self._settings.job_poll_seconds,
        )
        try:
            await poller.async_run()
        finally:
            await cancel_and_wait(*poller.tasks.values())
