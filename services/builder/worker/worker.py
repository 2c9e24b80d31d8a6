"""The builder worker: an arq worker that supervises many builds at once, and a member of the builder stage.

Run as `python -m services.builder.worker`. The compute is in the executor; this process only watches, so it may be
killed or paused at any moment.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

import uvicorn
import uvloop
from arq.worker import func
from redis.exceptions import ResponseError

from services.builder.context import BuilderContext, open_builder
from services.builder.queue.admission import Admission
from services.builder.queue.attempts import topic_of
from services.builder.queue.jobs import SUPERVISE
from services.builder.settings import BuilderSettings
from services.builder.worker.slots import SlotWorker
from services.builder.worker.supervision import Supervision
from services.common.context import stage_member
from services.common.models import Build
from services.common.records.cancel_requests import CancelRequests
from services.common.records.leases import StageMember
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind
from services.common.service.backoff import Backoff
from services.common.service.health import Health
from services.common.service.logging import bound_contextvars, configure_logging, get_logger
from services.common.service.setting_names import warn_of_unknown_variables
from services.common.web.app import create_service
from services.common.web.auth import require_secrets
from services.common.web.listening import open_listeners
from services.common.web.serve import http_config

log = get_logger(__name__)
NAME = "builder worker"


class BuilderWorker:
    """Takes jobs from arq and supervises the builds that they name."""

    def __init__(self, parts: BuilderContext, member: StageMember, settings: BuilderSettings) -> None:
        self._member = member
        self._parts, self._settings = parts, settings
        self._context = parts.context
        self._running: dict[str, Supervision] = {}
        self._ended: set[str] = set()
        """Jobs whose build has ended; what is left of it is tidied."""
        self.cancels = CancelRequests(parts.context.records, Kind.BUILD, parts.context.keys.wake("builder"))

    async def supervise(self, context: dict[str, Any], argument: str) -> None:
        """One arq job. Returns at once when its epoch has passed or the build is someone else's."""
        job = json.loads(argument)
        build_id, epoch = str(job["build_id"]), int(job["epoch"])
        member = self._member
        topic = topic_of(build_id)
        found = await self._context.records.adopt(
            "builder", member.process, topic=topic, epoch=epoch, rewrite_if_missing=True
        )
        if found is None:
            return
        claimed, stored = found
        await self._parts.admission.take_job(build_id, epoch)
        cancelled = self.cancels.register(build_id, is_requested=bool(stored.get("cancel")))
        supervision = self._running[build_id] = Supervision(
            self._context, self._settings, self._parts.executor, self._parts.images,
            claimed, stored.model(Build), stored, cancelled,
        )  # fmt: skip
        log.info("build_claimed", build_id=build_id, epoch=epoch, position=stored.get("position"))
        with bound_contextvars(build_id=build_id):
            # A task of the member: it is cancelled when this process loses its lease.
            task = asyncio.create_task(supervision.run(), name=f"b:{build_id}")
            member.work(topic, _wait_for(task))
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
            finally:
                self.cancels.unregister(build_id, cancelled)
                if self._running.get(build_id) is supervision:
                    del self._running[build_id]
            if not task.cancelled() and task.result():
                self._ended.add(context["job_id"])
                await self._tidy(build_id)

    async def _tidy(self, build_id: str) -> None:
        """After the end: free the slot, store the log, let the executor forget. Another does it if this fails."""
        await self._parts.admission.done(build_id)
        await self._parts.admission.store_log(build_id)
        await self._parts.executor.remove(build_id)

    def heard(self, message: bytes) -> None:
        """Something on the builder's channel: perhaps a cancel for a build that is supervised here."""
        self.cancels.on_message(message)
        self._parts.admission.heard(message)
        self._member.wake()

    async def offer_slots(self) -> None:
        """Say how many builds this process can supervise; repeated under each name that it gets.

        What an emptied Redis does not know of them is told again: that they have a slot, and are their images' current
        attempts. So nobody begins another.
        """
        keys, ttl_ms = self._context.keys, int(self._settings.attempt_ttl_seconds * 1000)
        async with self._context.redis.pipeline() as pipe:
            pipe.hset(keys("slots"), self._member.process, self._settings.build_slots)
            for build_id, supervision in self._running.items():
                image, _, number = build_id.rpartition("-")
                pipe.set(keys.attempt(image), number, px=ttl_ms, nx=True)
                pipe.hsetnx(keys("{queue}:running"), build_id, supervision.repository)
            await pipe.execute()

    async def run_arq(self) -> None:
        """arq's loop, begun again with back-off whenever Redis goes away."""
        backoff = Backoff(first_seconds=0.1, longest_seconds=2.0, jitter=0.0)
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            arq = SlotWorker(
                [func(self.supervise, name=SUPERVISE)],
                self._context,
                handle_signals=False,
                slots=self._settings.build_slots,
                ended=self._ended,
                max_jobs=10_000,
                queue_read_limit=10_000,
                job_timeout=self._settings.build_timeout_seconds + 3600,
                keep_result=0,
                max_tries=1_000_000,
                poll_delay=self._settings.job_poll_seconds,
                log_results=False,
            )
            try:
                await arq.async_run()
            except (
                *REDIS_UNAVAILABLE,
                ResponseError,
            ) as error:  # an answer too: out of memory, a full disk, a read-only replica
                log.warning("redis_away", doing="jobs", error=str(error))
            finally:
                for task in list(arq.tasks.values()):
                    task.cancel()
                await asyncio.gather(*arq.tasks.values(), return_exceptions=True)
            backoff.restart_after_run(loop.time() - started)
            await backoff.sleep()


async def _wait_for(task: asyncio.Task[bool]) -> None:
    """The member's handle on a supervision: cancelling it cancels the supervision."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def run(settings: BuilderSettings) -> int:
    """Be a worker until SIGTERM or SIGINT; then builds are handed over at once, and go on.

    Returns the exit status: 0 when it was asked to end, 1 when a part of it ended by itself.
    """
    health = Health()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = create_service(settings, name=NAME, lifespan=_nothing, routers=[], health=health)
    server = uvicorn.Server(http_config(app, settings))
    listeners = open_listeners(settings)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    async with open_builder(settings, health) as parts:
        admission: Admission = parts.admission
        async with stage_member(parts.context, "builder") as member:
            worker = BuilderWorker(parts, member, settings)
            await member.start(on_sweep=admission.sweep, on_begin=worker.offer_slots)
            await parts.context.bus.listen(parts.context.keys.wake("builder"), worker.heard)
            parts_of = {
                "server": server.serve(sockets=listeners),
                "jobs": worker.run_arq(),
                "cancels": worker.cancels.poll(),
                "admission": admission.admit_when_moved(member),
                "stop": stop.wait(),
            }
            tasks = [asyncio.create_task(work, name=name) for name, work in parts_of.items()]
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            status = 0 if stop.is_set() else 1
            for task in ended if status else ():
                why = None if task.cancelled() else task.exception()
                log.error("part_ended", part=task.get_name(), error=str(why), exc_info=why)
            log.info("handing_over", builds=len(worker._running))
            server.should_exit = True
            pending = set(tasks)
            while pending:  # arq and redis-py swallow a cancel now and then
                for task in pending - {tasks[0]}:
                    task.cancel()
                _done, pending = await asyncio.wait(pending, timeout=0.2)
            await asyncio.gather(*tasks, return_exceptions=True)
            await parts.context.redis.hdel(parts.context.keys("slots"), member.process)
    return status


@contextlib.asynccontextmanager
async def _nothing(_app: object) -> Any:
    yield


def main() -> None:
    """Entry point."""
    settings = BuilderSettings()
    require_secrets(settings, NAME)
    configure_logging(service="worker", level=settings.log_level, form=settings.log_format)
    warn_of_unknown_variables(os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(run(settings))
    sys.exit(status)
