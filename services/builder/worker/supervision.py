"""Supervising one build: from its slot to its final state, at any worker, any number of times."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter, Histogram

from services.builder.executors.base import (
    Attempt,
    Batch,
    ExecutionVanishedError,
    Executor,
    ExecutorUnavailableError,
    Finished,
    Line,
)
from services.builder.executors.image_place import image_place
from services.builder.images import ExistingImage, ImageLookup, labels_of
from services.builder.queue.attempts import topic_of
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import Build, BuildState, Event, Phase, ResolvedRepo
from services.common.models.error_codes import ErrorCode, known_code
from services.common.models.errors import BinderyError
from services.common.records.launch_cache import CachedImage
from services.common.records.owned_record import Fenced, OwnedRecord, RecordLost
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.service.correlation import from_fields
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

T = TypeVar("T")
RUN_AGAIN: frozenset[ErrorCode] = frozenset({"build_lost", "registry_unavailable"})
"""Errors of an execution that the next one may not have."""

FAILS_WITHIN_SECONDS = 60.0
"""No call that nothing answers lasts so long: one that did has worked before it failed."""

BUILDS = Counter("bindery_builds_total", "Builds that ended, by outcome", ["outcome"])
SECONDS = Histogram(
    "bindery_build_seconds", "Time from slot to end, in seconds", ["outcome"],
    buckets=(5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400),
)  # fmt: skip


@dataclass
class Supervision:
    """One worker's watch over one build that it owns."""

    context: ProcessContext
    settings: BuilderSettings
    executor: Executor
    images: ImageLookup
    claimed: OwnedRecord
    build: Build
    stored: StoredRecord
    cancelled: asyncio.Event

    def __post_init__(self) -> None:
        self._position = self.stored.get("position")
        self._answers = 0
        self._run = int(self.stored.get("run") or 1)

    @property
    def repository(self) -> str:
        """What queue and cap count it for: its canonical URL; in a record of an earlier release, the URL as given."""
        return self.stored.get("repo_url") or self.build.repo_url

    async def run(self) -> bool:
        """See the build through to its end; whether that is recorded, so that what is left of it may be tidied.

        False when another worker owns it by now. Cancelling this coroutine is a handover: it touches nothing.
        """
        with bound_contextvars(**from_fields(self.stored.fields)):
            return await self._see_through()

    async def _see_through(self) -> bool:
        try:
            await self._supervise()
            return True
        except Fenced:
            log.warning("build_fenced", build_id=self.build.build_id, epoch=self.claimed.epoch)
        except RecordLost:
            log.error("build_record_lost", build_id=self.build.build_id)
        except Exception as error:
            log.exception("supervision_failed", build_id=self.build.build_id, error=str(error))
            with contextlib.suppress(Fenced, RecordLost):
                await self._ended(BuildState.FAILED, BinderyError("internal"))
                return True
        return False

    async def _supervise(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline()):
                found = await self._until_cancelled()
            if found is None:
                await self._stop()
                await self._ended(BuildState.CANCELLED, await self._why_cancelled())
            elif self.build.state is BuildState.QUEUED:
                await self._built(found.digest, "The image is there already.\n")
            else:
                await self._built(found.digest, "Built image, launching...\n")
        except TimeoutError:
            await self._stop()
            seconds = self.settings.build_timeout_seconds
            await self._ended(
                BuildState.FAILED, BinderyError("build_timeout", f"It was not done after {seconds:.0f} s.")
            )
        except BinderyError as error:
            await self._stop()
            await self._ended(BuildState.FAILED, error)

    def _attempt(self) -> Attempt:
        repo = ResolvedRepo.model_validate_json(self.stored.get("repo"))
        return Attempt(
            build_id=self.build.build_id or "",
            image=self.build.image,
            repo_url=self.build.repo_url,
            ref=self.build.ref,
            epoch=self.claimed.epoch,
            run=self._run,
            content_provider=repo.content_provider,
            labels=labels_of(self.build),
        )

    def _deadline(self) -> float:
        begun = self.build.started_at or time.time()
        return asyncio.get_running_loop().time() + begun + self.settings.build_timeout_seconds - time.time()

    async def _begin(self) -> None:
        self.build = self.build.updated(state=BuildState.RUNNING, started_at=time.time(), queue=None)
        await self.claimed.write(body=self.build)

    async def _until_cancelled(self) -> ExistingImage | None:
        """Run the build to its end, or to a cancel (None)."""
        runs = asyncio.create_task(self._runs(), name=f"runs {self.build.build_id}")
        cancel = asyncio.create_task(self.cancelled.wait(), name=f"cancel {self.build.build_id}")
        try:
            await asyncio.wait({runs, cancel}, return_when=asyncio.FIRST_COMPLETED)
            return await runs if runs.done() else None
        finally:
            runs.cancel()
            cancel.cancel()
            await asyncio.gather(runs, cancel, return_exceptions=True)

    async def _runs(self) -> ExistingImage:
        """Run the attempt, again where its execution vanished or could not push, until its image is there.

        Raises `BinderyError`.
        """
        # One that is adopted has said things that nobody has heard yet: it is followed first, even if it is done.
        if self.build.state is BuildState.QUEUED:
            if found := await self._look_for_image():
                return found
            await self._begin()
        while True:
            error = await self._one_run()
            if (error is None or error.code in RUN_AGAIN) and (found := await self._look_for_image()):
                return found
            if error is None:
                raise BinderyError("internal", "The build ended well, but left no image.")
            if error.code not in RUN_AGAIN or self._run >= self.settings.build_runs_max:
                raise error
            self._run += 1
            self._position = ""
            again = Line("gap", f"{error.detail} The build is run again; what it still said may be missing here.\n")
            await self._publish(Batch((again,), ""), run=self._run)

    async def _one_run(self) -> BinderyError | None:
        """Follow the current run to its end: None, or why there is no image."""
        try:
            finished = await self._patiently(self._follow)
        except ExecutionVanishedError as error:
            return BinderyError("build_lost", f"What ran the build has vanished: {error}.")
        if finished.ok:
            return None
        code = known_code(finished.error_code or "", otherwise="build_failed")
        return BinderyError(code, finished.error_message or "")

    async def _follow(self) -> Finished:
        attempt, quiet = self._attempt(), self.settings.build_stall_seconds or None
        await self.executor.ensure(attempt)
        try:
            async with asyncio.timeout(quiet) as stall:
                async for item in self.executor.follow(attempt, self._position):
                    if isinstance(item, Finished):
                        return item
                    self._answers += 1
                    if quiet:
                        stall.reschedule(asyncio.get_running_loop().time() + quiet)
                    if item.lines or item.position != self._position:
                        await self._publish(item)
        except TimeoutError:
            if quiet and stall.expired():
                raise BinderyError("build_stalled", f"It has said nothing for {quiet:.0f} s.") from None
            raise
        raise ExecutionVanishedError("its output ended without a result")

    async def _look_for_image(self) -> ExistingImage | None:
        """Ask where the images are. Raises `BinderyError("registry_unavailable")` once that is away for too long."""
        return await self._patiently(lambda: self.images.find(self.build.image))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again, with back-off, while what it needs is away; whoever follows the build reads why it waits.

        Raises `BinderyError`: `registry_unavailable` or `executor_unavailable` when it stays away.
        """
        loop, pause_seconds, said = asyncio.get_running_loop(), 0.2, ""
        deadline: float | None = None
        while True:
            begun, answers = loop.time(), self._answers
            try:
                return await call()
            except ExecutorUnavailableError as error:
                away, why = BinderyError("executor_unavailable"), str(error)
            except BinderyError as error:
                if not error.has_code("registry_unavailable"):
                    raise
                away, why = error, error.detail
            now = loop.time()
            has_worked = self._answers != answers or now - begun > FAILS_WITHIN_SECONDS
            if deadline is None or has_worked:
                deadline, pause_seconds, said = now + self.settings.outage_patience_seconds, 0.2, ""
            if now + pause_seconds > deadline:
                log.warning("gave_up_waiting", code=away.code, why=why)
                raise away
            if away.code != said:
                said = away.code
                log.warning("waiting", code=away.code, why=why)  # whoever follows the build reads the sentence alone
                await self._publish(Batch((Line("waiting", f"{away.detail} Waiting for it ...\n"),), self._position))
            await sleep_unless_cancelled(pause_seconds)
            pause_seconds = min(5.0, pause_seconds * 2)

    async def _publish(self, batch: Batch, *, run: int | None = None) -> None:
        # An engine's own "failed" is a line like any other: the build ends once, by the attempt's final state.
        phases = ["building" if line.phase == "failed" else line.phase for line in batch.lines]
        events = [{"phase": phase, "message": line.message} for phase, line in zip(phases, batch.lines, strict=True)]
        fields = {"position": batch.position} | ({"run": str(run)} if run else {})
        body = None
        if self.build.state is BuildState.RUNNING and Phase.PUSHING in phases:
            self.build = body = self.build.updated(state=BuildState.PUSHING)
        await self.claimed.write(*events, fields=fields, body=body)
        self._position = batch.position

    async def _built(self, digest: str | None, message: str) -> None:
        self.build = self.build.updated(state=BuildState.BUILT, digest=digest, finished_at=time.time(), queue=None)
        repo = ResolvedRepo.model_validate_json(self.stored.get("repo"))
        fact = CachedImage(
            image=self.build.image, digest=digest, build_id=self.build.build_id, asked_at=self.build.finished_at or 0
        )
        await self.context.launch_cache.store_image(repo, fact, image_place(self.settings))
        event = Event(
            phase=Phase.BUILT, message=message, state=BuildState.BUILT, image_name=self.build.image, terminal=True
        )
        await self._finish(event)

    async def _ended(self, state: BuildState, error: BinderyError) -> None:
        self.build = self.build.updated(state=state, error=error.problem, finished_at=time.time(), queue=None)
        phase = Phase.CANCELLED if state is BuildState.CANCELLED else Phase.FAILED
        await self._finish(
            Event(phase=phase, message=f"{error.detail}\n", state=state, error=error.problem, terminal=True)
        )

    async def _finish(self, event: Event) -> None:
        outcome = self.build.error.code if self.build.error else str(self.build.state)
        await self.claimed.write(event, body=self.build, final=True)
        BUILDS.labels(outcome).inc()
        SECONDS.labels(outcome).observe(time.time() - (self.build.started_at or time.time()))
        log.info("build_ended", build_id=self.build.build_id, outcome=outcome)

    async def _stop(self) -> None:
        """End the execution; bounded, as an engine that does not answer must not keep the build from ending."""
        try:
            async with asyncio.timeout(self.settings.build_stop_seconds):
                await self.executor.stop(self._attempt())
        except Exception as error:
            log.exception("stop_failed", build_id=self.build.build_id, error=str(error))

    async def _why_cancelled(self) -> BinderyError:
        key = self.context.keys.record(topic_of(self.build.build_id or ""))
        reason, code = await retry_while_unavailable(
            lambda: self.context.redis.hmget(key, "cancel", "cancel_code"), seconds=self.settings.redis_patience_seconds
        )
        cancel_code = known_code(code.decode() if code else "", otherwise="cancelled")
        return BinderyError(cancel_code, reason.decode() if reason else "The build was cancelled.")
