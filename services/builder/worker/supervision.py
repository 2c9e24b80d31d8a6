"""The supervision of one build, from its slot to its final state. Any worker may take it over at any time."""

import asyncio
import contextlib
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from services.builder.executors.base import (
    Attempt,
    Batch,
    ExecutionVanishedError,
    Executor,
    Finished,
    Line,
)
from services.builder.executors.image_store import image_store_id
from services.builder.images import ExistingImage, ImageLookup, image_labels
from services.builder.queue.attempts import build_topic
from services.builder.settings import BuilderSettings
from services.builder.worker.causes.cause import explain
from services.builder.worker.outage_retries import OutageRetries
from services.builder.worker.repository_access import RepositoryAccess
from services.common.context import ProcessContext
from services.common.models import Build, BuildState, Event, Phase, ResolvedRepo
from services.common.models.error_codes import ErrorCode, known_code
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.records.launch_cache import CachedImage
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import REDIS_PY_UNAVAILABLE, retry_while_unavailable
from services.common.service.clock import clock
from services.common.service.correlation import from_fields
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.tasks import Interrupted, run_until
from services.common.streams.entries import StreamEvent

log = get_logger(__name__)

RUN_AGAIN: frozenset[ErrorCode] = frozenset({"build_lost", "registry_unavailable"})
"""Errors of an execution that another run may avoid."""

BUILDS = Counter("bindery_builds_total", "Builds that ended, by outcome", ["outcome"])
BUILD_SECONDS = Histogram(
    "bindery_build_seconds", "Time from slot to end, in seconds", ["outcome"],
    buckets=(5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400),
)  # fmt: skip


@dataclass(kw_only=True)
class Supervision:
    """One worker's supervision of one build that it owns."""

    context: ProcessContext
    settings: BuilderSettings
    executor: Executor
    images: ImageLookup
    record: OwnedRecord
    """The build's record, owned by this process."""
    build: Build
    """The build as the record has it; replaced at each change."""
    stored: StoredRecord
    """The record as it was when it was claimed."""
    cancelled: asyncio.Event
    """Set when the build is to be cancelled."""

    def __post_init__(self) -> None:
        """Continue where the record says that the supervision before this one stopped."""
        self._position = self.stored.get("position")
        self._outages = OutageRetries(
            patience_seconds=self.settings.outage_patience_seconds, announce=self._announce_outage
        )
        self._access = RepositoryAccess(self.stored, self.context, self.settings)
        self._run_number = int(self.stored.get("run") or 1)

    @property
    def repository(self) -> str:
        """The repository that it counts for in queue and cap: its canonical URL.

        In a record of an earlier release it is the URL as it was given.
        """
        return self.stored.get("repo_url") or self.build.repo_url

    async def run(self) -> bool:
        """Supervise the build to its end. Return True once that is recorded, so that it may be tidied up.

        Return False if another worker owns the build by now. Cancelling this coroutine hands the build over: the
        execution goes on. Raise redis-py's error if Redis was unavailable for too long: the execution goes on too, and
        the build is taken over once Redis is back.
        """
        with bound_contextvars(**from_fields(self.stored.fields)):
            return await self._run()

    async def _run(self) -> bool:
        try:
            await self._supervise()
            return True
        except Fenced:
            log.warning("build_fenced", build_id=self.build.build_id, epoch=self.record.epoch)
        except REDIS_PY_UNAVAILABLE:
            raise  # it says nothing about the build, whose end could not be recorded anyway
        except Exception as error:
            log.exception("supervision_failed", build_id=self.build.build_id, error=str(error))
            with contextlib.suppress(Fenced):
                await self._fail(BuildState.FAILED, BinderyError("internal"))
                return True
        return False

    async def _supervise(self) -> None:
        """Run the build until it has its image, fails, is cancelled or reaches its deadline, and record the end."""
        deadline = asyncio.timeout_at(self._deadline())
        try:
            async with deadline:
                image = await run_until(
                    self.cancelled,
                    self._run_until_image(),
                    name=f"runs {self.build.build_id}",
                    again_seconds=self.context.records.cancel_again_seconds,
                    within_seconds=self.context.records.cancel_within_seconds,
                    drop_late=True,  # a cancelled build ends cancelled, whatever goes wrong as its run is stopped
                )

            was_not_run = self.build.state is BuildState.QUEUED
            message = "The image already exists.\n" if was_not_run else "Built image, launching...\n"
            await self._succeed(image.digest, message)
        except Interrupted:
            await self._stop()
            await self._fail(BuildState.CANCELLED, await self._cancel_reason())
        except TimeoutError:
            if not deadline.expired():
                raise  # a call's own
            await self._stop()
            seconds = self.settings.build_timeout_seconds
            error = BinderyError("build_timeout", f"It was not done after {seconds:.0f} s.")
            await self._fail(BuildState.FAILED, error)
        except BinderyError as error:
            # Recorded first: an execution that is stopped says no more why it failed, and a worker that took the build
            # over then would run it again.
            await self._fail(BuildState.FAILED, await explain(error, self.context, self.record.topic))
            await self._stop()

    def _attempt(self, credential: ScopedCredential | None = None) -> Attempt:
        repo = self.stored.model_of_field("repo", ResolvedRepo)
        return Attempt(
            build_id=self.build.build_id or "",
            image=self.build.image,
            repo_url=self.build.repo_url,
            ref=self.build.ref,
            epoch=self.record.epoch,
            run=self._run_number,
            content_provider=repo.content_provider,
            labels=image_labels(self.build),
            credential=credential,
        )

    def _deadline(self) -> float:
        """Return the loop's time at which the build has taken too long, measured from its first start."""
        started_at = self.build.started_at or clock.now()
        remaining_seconds = started_at + self.settings.build_timeout_seconds - clock.now()
        return asyncio.get_running_loop().time() + remaining_seconds

    async def _start(self) -> None:
        self.build = self.build.updated(state=BuildState.RUNNING, started_at=clock.now(), queue=None)
        await self.record.write(body=self.build)

    async def _run_until_image(self) -> ExistingImage:
        """Run the attempt, again if its execution vanished or could not push, until its image exists.

        Raise `BinderyError`.
        """
        # A build that is taken over may have output that nobody has read: it is followed first, even if it has ended.
        if self.build.state is BuildState.QUEUED:
            if image := await self._find_image():
                return image
            await self._start()

        while True:
            error = await self._follow_run()
            if (error is None or error.code in RUN_AGAIN) and (image := await self._find_image()):
                return image
            if error is None:
                raise BinderyError("internal", "The build ended well, but left no image.")
            if error.code not in RUN_AGAIN or self._run_number >= self.settings.build_runs_max:
                raise error

            self._run_number += 1
            self._position = ""
            again = Line("gap", f"{error.detail} The build is run again; its last lines may be missing here.\n")
            await self._publish(Batch((again,), ""), run=self._run_number)

    async def _follow_run(self) -> BinderyError | None:
        """Follow the current run to its end; return why there is no image, or None."""
        try:
            finished = await self._outages.call(self._follow)
        except ExecutionVanishedError as error:
            return BinderyError("build_lost", f"The execution of the build has vanished: {error}.")

        if finished.ok:
            return None
        code = known_code(finished.error_code or "", otherwise="build_failed")
        return self._access.explained(BinderyError(code, finished.error_message or ""))

    async def _follow(self) -> Finished:
        """Publish the output of the current run, from the last position on, and return how it ended."""
        attempt = self._attempt(await self._access.credential())
        stall_seconds = self.settings.build_stall_seconds or None
        await self.executor.ensure(attempt)

        try:
            async with asyncio.timeout(stall_seconds) as stall:
                async for item in self.executor.follow(attempt, self._position):
                    if isinstance(item, Finished):
                        return item

                    self._outages.progress += 1
                    if item.lines or item.position != self._position:
                        stall.reschedule(None)  # a wait for Redis is not the build's silence
                        await self._publish(item)
                    if stall_seconds:
                        stall.reschedule(asyncio.get_running_loop().time() + stall_seconds)
        except TimeoutError:
            if stall_seconds and stall.expired():
                raise BinderyError("build_stalled", f"It has printed nothing for {stall_seconds:.0f} s.") from None
            raise

        raise ExecutionVanishedError("its output ended without a result")

    async def _find_image(self) -> ExistingImage | None:
        """Look the image up. Raise `BinderyError("registry_unavailable")` after a long outage."""
        return await self._outages.call(lambda: self.images.find(self.build.image))

    async def _announce_outage(self, sentence: str) -> None:
        await self._publish(Batch((Line("waiting", f"{sentence}\n"),), self._position))

    async def _publish(self, batch: Batch, *, run: int | None = None) -> None:
        """Write a batch into the build's stream, with its position."""
        # An engine's own "failed" is a line like any other: the build ends once, by the attempt's final state.
        phases = ["building" if line.phase == "failed" else line.phase for line in batch.lines]
        events: list[StreamEvent] = [
            {"phase": phase, "message": line.message} for phase, line in zip(phases, batch.lines, strict=True)
        ]
        fields = {"position": batch.position} | ({"run": str(run)} if run else {})
        body = None
        if self.build.state is BuildState.RUNNING and Phase.PUSHING in phases:
            self.build = self.build.updated(state=BuildState.PUSHING)
            body = self.build
        await self.record.write(*events, fields=fields, body=body)
        self._position = batch.position

    async def _succeed(self, digest: str | None, message: str) -> None:
        self.build = self.build.updated(state=BuildState.BUILT, digest=digest, finished_at=clock.now(), queue=None)
        repo = self.stored.model_of_field("repo", ResolvedRepo)
        cached_image = CachedImage(
            image=self.build.image, digest=digest, build_id=self.build.build_id, asked_at=self.build.finished_at or 0
        )
        await self.context.launch_cache.store_image(repo, cached_image, image_store_id(self.settings))
        event = Event(
            phase=Phase.BUILT, message=message, state=BuildState.BUILT, image_name=self.build.image, terminal=True
        )
        await self._finish(event)

    async def _fail(self, state: BuildState, error: BinderyError) -> None:
        self.build = self.build.updated(state=state, error=error.problem, finished_at=clock.now(), queue=None)
        phase = Phase.CANCELLED if state is BuildState.CANCELLED else Phase.FAILED
        await self._finish(
            Event(phase=phase, message=f"{error.detail}\n", state=state, error=error.problem, terminal=True)
        )

    async def _finish(self, event: Event) -> None:
        outcome = self.build.error.code if self.build.error else str(self.build.state)
        await self.record.write(event, body=self.build, final=True)
        BUILDS.labels(outcome).inc()
        BUILD_SECONDS.labels(outcome).observe(clock.now() - (self.build.started_at or clock.now()))
        rule = self.build.error.cause.rule if self.build.error and self.build.error.cause else None
        log.info("build_ended", build_id=self.build.build_id, outcome=outcome, cause=rule)

    async def _stop(self) -> None:
        """Stop the execution, within a deadline: an engine that does not answer must not keep the build from ending."""
        try:
            async with asyncio.timeout(self.settings.build_stop_seconds):
                await self.executor.stop(self._attempt())
        except Exception as error:
            log.exception("stop_failed", build_id=self.build.build_id, error=str(error))

    async def _cancel_reason(self) -> BinderyError:
        """Return the error that the request for the cancellation left in the record."""
        key = self.context.keys.record(build_topic(self.build.build_id or ""))
        reason, code = await retry_while_unavailable(
            lambda: self.context.redis.hmget(key, "cancel", "cancel_code"), seconds=self.settings.redis_patience_seconds
        )
        cancel_code = known_code(code.decode() if code else "", otherwise="cancelled")
        return BinderyError(cancel_code, reason.decode() if reason else "The build was cancelled.")
