"""Following one run: its log as it comes, what is in its way, and how it ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from services.builder.executors.base import (
    Attempt,
    Batch,
    ExecutionVanishedError,
    ExecutorUnavailableError,
    Finished,
    Line,
)
from services.builder.executors.failure_classifier import classify_exit
from services.builder.executors.kubernetes.api import Api, ApiError
from services.builder.executors.kubernetes.cluster_cache import ClusterCache, JobSnapshot
from services.builder.executors.kubernetes.jobs import Jobs
from services.builder.executors.kubernetes.logs import LogDecoder, LogReader, Position
from services.builder.executors.kubernetes.manifest import job_name
from services.builder.executors.kubernetes.obstacles import Obstacle, ObstacleTimer, obstacle_of
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import PodState

BATCH_SECONDS = 0.05
_TICK_SECONDS = 1.0
_TIMEOUT = "DeadlineExceeded"
_LOG_GONE = "The end of the log may be missing: the pod went before it could be read.\n"


class RunFollower:
    """One worker's look at one Job, from a position on."""

    def __init__(
        self, api: Api, jobs: Jobs, view: ClusterCache, settings: KubernetesSettings, attempt: Attempt, position: str
    ) -> None:
        self._api, self._jobs, self._cluster, self._settings = api, jobs, view, settings
        self._attempt, self._job = attempt, job_name(attempt.name)
        place = Position.parse(position)
        self._log = LogDecoder(place, line_max_bytes=settings.build_line_max_bytes, redact=jobs.redact)
        self._reader: LogReader | None = None
        self._read_since_end = self._is_drained = False
        self._read_again_at = 0.0
        self._pause_seconds = 0.2
        self._retry_at = 0.0
        self._ended_at: float | None = None
        self._obstacle_timer = ObstacleTimer(settings.kubernetes_settle_seconds)
        self._named = self._log.position.job
        self._settled_at = time.monotonic() + settings.kubernetes_settle_seconds

    async def news(self) -> AsyncIterator[Batch | Finished]:
        """What comes, and the end. Raises `ExecutionVanishedError`, `ExecutorUnavailableError`."""
        with self._cluster.subscribe(self._job) as wake:
            await self._cluster.ready()
            await self._identify()
            try:
                while True:
                    wake.clear()
                    self._cluster.check()
                    if (lines := self._read_log(wake)) or self._is_to_be_named():
                        yield self._batch(*lines)
                    told = await self._look()
                    if isinstance(told, Line):
                        yield self._batch(told)
                    elif told is not None:
                        if self._lacks_lines(told):
                            yield self._batch(Line("gap", _LOG_GONE))
                        yield told
                        return
                    elif self._can_say_nothing():
                        yield self._batch()
                    await self._wait(wake)
            finally:
                if self._reader:
                    await self._reader.aclose()

    def _batch(self, *lines: Line) -> Batch:
        self._named = self._log.position.job
        return Batch(lines, str(self._log.position))

    async def _identify(self) -> None:
        """Know the Job by its uid, and by that its pod.

        Raises `ExecutionVanishedError` where it is another than the position's: ours was deleted while nobody followed
        it, and whoever asked for it next made it anew. That one is deleted; another run will be asked for, and counted.
        """
        found, known = await self._jobs.identify(self._attempt), self._log.position.job
        if known and found != known:
            if found:
                await self._jobs.delete(self._job, uid=found)
            raise ExecutionVanishedError("its Job was deleted")
        if found:
            self._log.position = replace(self._log.position, job=found)
        elif not self._jobs.refusal(self._attempt):
            raise ExecutionVanishedError("its Job is gone")

    def _is_to_be_named(self) -> bool:
        """Whether the Job, which says nothing yet, should stand in the build's record all the same."""
        return self._log.position.job != self._named and time.monotonic() > self._settled_at

    def _seen(self) -> JobSnapshot:
        return self._cluster.snapshot(self._job, self._log.position.job)

    async def _wait(self, wake: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_TICK_SECONDS):
                await wake.wait()
            await asyncio.sleep(BATCH_SECONDS)  # what comes in quick succession goes out as one batch
        except TimeoutError:
            pass

    # The log

    def _read_log(self, wake: asyncio.Event) -> list[Line]:
        pod = self._seen().pod
        reader = self._reader
        lines = self._log.feed(reader.take()) if reader else []
        if lines:
            self._pause_seconds = 0.2
        if reader and reader.has_ended:
            self._reader = None
            if reader.is_whole and self._read_since_end:
                lines += self._log.end()
                self._is_drained = True
            self._read_again_at = time.monotonic() + self._pause_seconds
            self._pause_seconds = min(5.0, 2 * self._pause_seconds)
        has_log = pod is not None and pod.has_started and not pod.is_deleted
        if pod and has_log and self._reader is None and not self._is_drained:
            if (is_over := pod.exit_code is not None) and not self._read_since_end:
                self._read_again_at = 0.0  # at once: the pod may be removed any time now
            if time.monotonic() >= self._read_again_at:
                self._read_since_end = is_over
                self._log = self._log.for_next_stream()
                self._reader = LogReader(
                    api=self._api,
                    pod=pod.name,
                    position=self._log.position,
                    quiet_seconds=self._settings.kubernetes_log_quiet_seconds,
                    wake=wake,
                )
        return lines

    def _lacks_lines(self, end: Finished) -> bool:
        """Whether the build said something, perhaps, that could not be read."""
        pod = self._seen().pod
        return not self._is_drained and (end.ok or (pod is not None and pod.has_started))

    # How it goes

    async def _look(self) -> Line | Finished | None:
        snapshot = self._seen()
        if snapshot.job is None and snapshot.pod is None:
            return self._obstacle_timer.observe(await self._missing())
        if snapshot.pod and (ended := await self._ended(snapshot, snapshot.pod)):
            return ended
        if (
            snapshot.job
            and (snapshot.pod is None or snapshot.pod.is_deleted)
            and (ended := self._ended_without_pod(snapshot))
        ):
            return ended
        return self._obstacle_timer.observe(obstacle_of(snapshot, self._settings))

    def _can_say_nothing(self) -> bool:
        """Whether something is in the build's way, or its container is not made yet: its silence is no standstill."""
        if time.monotonic() <= self._settled_at:
            return False
        pod = self._seen().pod
        return self._obstacle_timer.has_obstacle or pod is None or not (pod.has_started or pod.has_ended)

    async def _missing(self) -> Obstacle | None:
        """The watch has no such Job: it is too new, it was refused, or it is gone."""
        if refused := self._jobs.refusal(self._attempt):
            if time.monotonic() < self._retry_at:
                return refused
            self._retry_at = time.monotonic() + self._settings.kubernetes_probe_seconds
            if not await self._jobs.retry(self._attempt):
                return refused
            await self._identify()
            return None
        there = await self._jobs.read(self._job)
        if there is None or there.uid != self._log.position.job:
            raise ExecutionVanishedError("its Job is gone")
        return None

    async def _ended(self, snapshot: JobSnapshot, pod: PodState) -> Finished | None:
        """How the pod ended, once its log is read as far as it can be; None while it has not."""
        is_taken_away = pod.is_being_removed
        if pod.exit_code is None and not pod.has_ended:
            lost = self._settings.kubernetes_lost_seconds + self._settings.kubernetes_grace_seconds
            if pod.deleting_since and time.time() - pod.deleting_since > lost:
                raise ExecutionVanishedError("its pod was deleted, and the node does not say that it is gone")
            return None
        if pod.exit_code is not None and not self._is_drained and not pod.is_deleted and not self._gave_up_reading():
            return None
        if pod.exit_code == 0:
            return Finished(ok=True)
        if pod.reason == "Evicted":
            return Finished(False, "build_evicted", f"The build was evicted from its node: {pod.message}")
        is_out_of_memory = pod.exit_reason == "OOMKilled"
        if pod.exit_code is None or (is_taken_away and not is_out_of_memory):
            return self._taken_away(snapshot, pod)
        tail = await self._tail(pod)
        found = classify_exit(
            pod.exit_code, tail, is_out_of_memory=is_out_of_memory, memory_limit=pod.memory_limit or ""
        )
        return replace(found, error_message=found.error_message and self._jobs.redact(found.error_message))

    def _gave_up_reading(self) -> bool:
        """Whether the log of a pod that has ended could not be read for so long that it never will."""
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() - self._ended_at > self._settings.kubernetes_lost_seconds

    def _taken_away(self, snapshot: JobSnapshot, pod: PodState) -> Finished | None:
        """The pod was deleted, preempted, or shut down with its node: by its Job's deadline, or by someone else."""
        job = snapshot.job
        if job and job.failure == _TIMEOUT:
            return self._timeout()
        self._ended_at = self._ended_at or time.monotonic()
        is_late = time.monotonic() - self._ended_at > self._settings.kubernetes_lost_seconds
        if job and not job.is_deleted and job.failure is None and not is_late:
            return None  # the Job says presently why
        if job and job.is_deleted:
            raise ExecutionVanishedError("its Job was deleted")
        why = f" ({pod.reason or pod.message})" if pod.reason or pod.message else ""
        raise ExecutionVanishedError(f"its pod was taken away{why}")

    def _ended_without_pod(self, snapshot: JobSnapshot) -> Finished | None:
        job = snapshot.job
        if job is None:
            return None
        if job.is_complete:
            return Finished(ok=True)
        if job.failure == _TIMEOUT:
            return self._timeout()
        if job.is_deleted:
            raise ExecutionVanishedError("its Job was deleted")
        if job.failure is not None:
            raise ExecutionVanishedError(f"its pod is gone ({job.failure})")
        return None

    def _timeout(self) -> Finished:
        seconds = self._settings.deadline_seconds
        return Finished(False, "build_timeout", f"The Job was not done after {seconds} s.")

    async def _tail(self, pod: PodState) -> list[bytes]:
        """The last lines of the log, those told by another worker included."""
        if pod.is_deleted:
            return list(self._log.tail)
        try:
            return list(await self._jobs.tail(pod.name)) or list(self._log.tail)
        except (ApiError, ExecutorUnavailableError):
            return list(self._log.tail)
