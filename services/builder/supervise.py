"""Supervising one build: from its slot to its final state, at any worker, any number of times."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from services.builder.attempts import topic_of
from services.builder.executors.base import Attempt, Batch, ExecutionVanishedError, Executor, Finished
from services.builder.images import Images
from services.builder.settings import BuilderSettings
from services.common.errors import KINDS, BinderyError
from services.common.facts import ImageFact
from services.common.logging import get_logger
from services.common.models import Build, BuildState, Event, Phase, ResolvedRepo
from services.common.records import Claimed, Fenced, RecordLost, Stored
from services.common.redis import patiently
from services.common.stage import Stage

log = get_logger(__name__)

BUILDS = Counter("bindery_builds_total", "Builds that ended, by outcome", ["outcome"])
SECONDS = Histogram(
    "bindery_build_seconds", "Time from slot to end, in seconds", ["outcome"],
    buckets=(5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)  # fmt: skip


@dataclass
class Supervision:
    """One worker's watch over one build that it owns."""

    stage: Stage
    settings: BuilderSettings
    executor: Executor
    images: Images
    claimed: Claimed
    build: Build
    stored: Stored
    cancelled: asyncio.Event

    async def run(self) -> None:
        """See the build through to its end.

        Ends quietly when another worker owns it by now. Cancelling this coroutine is a handover: it touches nothing.
        """
        try:
            await self._supervise()
        except Fenced:
            log.warning("build_fenced", build_id=self.build.build_id, epoch=self.claimed.epoch)
        except RecordLost:
            log.error("build_record_lost", build_id=self.build.build_id)
        except Exception as error:
            log.exception("supervision_failed", build_id=self.build.build_id, error=str(error))
            with contextlib.suppress(Fenced, RecordLost):
                await self._ended(BuildState.FAILED, BinderyError("internal"))

    async def _supervise(self) -> None:
        attempt = self._attempt()
        try:
            if found := await self.images.find(self.build.image):
                await self._built(found.digest, "The image is there already.\n")
                return
            await self._begin()
            async with asyncio.timeout_at(self._deadline()):
                finished = await self._until_cancelled(attempt)
            if finished is None:
                await self._stop(attempt)
                await self._ended(BuildState.CANCELLED, BinderyError("cancelled", await self._reason()))
            elif finished.ok:
                await self._ask_for_image()
            else:
                await self._failed(finished)
        except TimeoutError:
            await self._stop(attempt)
            seconds = self.settings.build_timeout_seconds
            await self._ended(
                BuildState.FAILED, BinderyError("build_timeout", f"It was not done after {seconds:.0f} s.")
            )
        except ExecutionVanishedError as error:
            if found := await self.images.find(self.build.image):
                await self._built(found.digest, "")
            else:
                await self._stop(attempt)
                await self._ended(
                    BuildState.FAILED, BinderyError("build_lost", f"What ran the build has vanished: {error}")
                )
        except BinderyError as error:
            await self._stop(attempt)
            await self._ended(BuildState.FAILED, error)

    def _attempt(self) -> Attempt:
        return Attempt(
            build_id=self.build.build_id or "",
            image=self.build.image,
            repo_url=self.build.repo_url,
            ref=self.build.ref,
            epoch=self.claimed.epoch,
        )

    def _deadline(self) -> float:
        begun = self.build.started_at or time.time()
        return asyncio.get_running_loop().time() + begun + self.settings.build_timeout_seconds - time.time()

    async def _begin(self) -> None:
        if self.build.state is BuildState.QUEUED:
            self.build = self.build.updated(state=BuildState.RUNNING, started_at=time.time(), queue=None)
            await self.claimed.write(body=self.build)

    async def _until_cancelled(self, attempt: Attempt) -> Finished | None:
        """Follow the execution to its end, or to a cancel (None)."""
        follow = asyncio.create_task(self._follow(attempt), name=f"follow {attempt.build_id}")
        cancel = asyncio.create_task(self.cancelled.wait(), name=f"cancel {attempt.build_id}")
        try:
            await asyncio.wait({follow, cancel}, return_when=asyncio.FIRST_COMPLETED)
            return await follow if follow.done() else None
        finally:
            follow.cancel()
            cancel.cancel()
            await asyncio.gather(follow, cancel, return_exceptions=True)

    async def _follow(self, attempt: Attempt) -> Finished:
        await self.executor.ensure(attempt)
        position = self.stored.get("position")
        async for item in self.executor.follow(attempt, position):
            if isinstance(item, Finished):
                return item
            await self._publish(item)
        raise ExecutionVanishedError("its output ended without a result")

    async def _publish(self, batch: Batch) -> None:
        # An engine's own "failed" is a line like any other: the build ends once, by the attempt's final state.
        phases = ["building" if line.phase == "failed" else line.phase for line in batch.lines]
        events = [{"phase": phase, "message": line.message} for phase, line in zip(phases, batch.lines, strict=True)]
        fields = {"position": batch.position}
        body = None
        if self.build.state is BuildState.RUNNING and Phase.PUSHING in phases:
            self.build = body = self.build.updated(state=BuildState.PUSHING)
        await self.claimed.write(*events, fields=fields, body=body)

    async def _ask_for_image(self) -> None:
        if found := await self.images.find(self.build.image):
            await self._built(found.digest, "Built image, launching...\n")
        else:
            await self._ended(BuildState.FAILED, BinderyError("internal", "The build ended well, but left no image."))

    async def _built(self, digest: str | None, message: str) -> None:
        self.build = self.build.updated(state=BuildState.BUILT, digest=digest, finished_at=time.time(), queue=None)
        repo = ResolvedRepo.model_validate_json(self.stored.get("repo"))
        fact = ImageFact(
            image=self.build.image, digest=digest, build_id=self.build.build_id, asked_at=self.build.finished_at or 0
        )
        await self.stage.facts.has_image(repo, fact)
        event = Event(
            phase=Phase.BUILT, message=message, state=BuildState.BUILT, image_name=self.build.image, terminal=True
        )
        await self._finish(event)

    async def _failed(self, finished: Finished) -> None:
        code = finished.error_code if finished.error_code in KINDS else "build_failed"
        await self._ended(BuildState.FAILED, BinderyError(code or "build_failed", finished.error_message or ""))

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

    async def _stop(self, attempt: Attempt) -> None:
        """End the execution; bounded, as an engine that does not answer must not keep the build from ending."""
        try:
            async with asyncio.timeout(self.settings.build_stop_seconds):
                await self.executor.stop(attempt)
        except Exception as error:
            log.exception("stop_failed", build_id=attempt.build_id, error=str(error))

    async def _reason(self) -> str:
        key = self.stage.keys.record(topic_of(self.build.build_id or ""))
        raw = await patiently(
            lambda: self.stage.redis.hget(key, "cancel"), seconds=self.settings.redis_patience_seconds
        )
        return raw.decode() if raw else "The build was cancelled."
