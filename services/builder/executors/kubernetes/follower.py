"""A follower of one run: its log as it grows, the obstacles in its way, and its end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from services.builder.executors.base import Attempt, Batch, ExecutionVanishedError, Finished, Line
from services.builder.executors.kubernetes.api import Api
from services.builder.executors.kubernetes.cluster_cache import ClusterCache, JobSnapshot
from services.builder.executors.kubernetes.jobs import Jobs
from services.builder.executors.kubernetes.logs import PodLogPosition
from services.builder.executors.kubernetes.manifest import job_name
from services.builder.executors.kubernetes.obstacles import Obstacle, ObstacleTimer, obstacle_of
from services.builder.executors.kubernetes.outcome import OutcomeDetector
from services.builder.executors.kubernetes.pod_log import PodLog
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.common.service.logging import get_logger

log = get_logger(__name__)

_BATCH_SECONDS = 0.05
_POLL_SECONDS = 1.0
_LOST_END = "The end of the log may be missing: the pod went before it could be read.\n"


class RunFollower:
    """One worker's view of one run, from a position on.

    Each pass of its loop reads the log (`PodLog`), asks whether the run has ended (`OutcomeDetector`), and if it has
    not, whether an obstacle is in its way (`ObstacleTimer`). The cache of the cluster wakes it for the next pass.
    """

    def __init__(
        self,
        *,
        api: Api,
        jobs: Jobs,
        cluster: ClusterCache,
        settings: KubernetesSettings,
        attempt: Attempt,
        position: str,
    ) -> None:
        self._jobs = jobs
        self._cluster = cluster
        self._settings = settings
        self._attempt = attempt
        self._job_name = job_name(attempt.name)

        self._log = PodLog(api=api, settings=settings, position=PodLogPosition.parse(position), redact=jobs.redact)
        self._outcome = OutcomeDetector(log=self._log, settings=settings, redact=jobs.redact)
        self._obstacle_timer = ObstacleTimer(settings.kubernetes_settle_seconds)

        self._stored_job_uid = self._log.job_uid
        self._settled_at = time.monotonic() + settings.kubernetes_settle_seconds
        self._create_again_at = 0.0
        self._verify_at = 0.0

    async def follow(self) -> AsyncIterator[Batch | Finished]:
        """Yield the run's output, and `Finished` last.

        Raise `ExecutionVanishedError` and `ExecutorUnavailableError`.
        """
        with self._cluster.subscribe(self._job_name) as wake:
            await self._cluster.ready()
            await self._identify()
            try:
                while True:
                    wake.clear()
                    self._cluster.check()

                    lines = self._log.read(self._snapshot().pod, wake)
                    if lines or self._must_store_job:
                        yield self._batch(*lines)

                    update = await self._observe()
                    if isinstance(update, Finished):
                        if self._may_lack_lines(update):
                            yield self._batch(Line("gap", _LOST_END))
                        yield update
                        return

                    if update is not None:
                        yield self._batch(update)
                    elif self._cannot_print_yet:
                        yield self._batch()
                    await _wait(wake)
            finally:
                await self._log.aclose()

    def _batch(self, *lines: Line) -> Batch:
        self._stored_job_uid = self._log.job_uid
        return Batch(lines, str(self._log.position))

    async def _identify(self) -> None:
        """Learn the Job's uid, by which its pod is known.

        Raise `ExecutionVanishedError` if the position belongs to another Job: that one was deleted while no worker
        followed it, and `ensure` has created this one since. This one is deleted: the build needs a run that is
        counted as another.
        """
        uid = await self._jobs.identify(self._attempt)
        expected_uid = self._log.job_uid
        if expected_uid and uid != expected_uid:
            if uid:
                await self._jobs.delete(self._job_name, uid=uid)
            raise ExecutionVanishedError("its Job was deleted")

        if uid:
            self._log.set_job_uid(uid)
        elif not self._jobs.refusal(self._attempt):
            raise ExecutionVanishedError("its Job is gone")

    def _snapshot(self) -> JobSnapshot:
        return self._cluster.snapshot(self._job_name, self._log.job_uid)

    async def _observe(self) -> Line | Finished | None:
        """Return how the run ended, or a line about an obstacle that lasts; None if there is nothing to say."""
        snapshot = self._snapshot()
        if snapshot.job is None and snapshot.pod is None:
            return self._obstacle_timer.observe(await self._obstacle_without_job())

        finished = await self._detect_end(snapshot)
        if finished:
            return finished
        return self._obstacle_timer.observe(obstacle_of(snapshot, self._settings))

    async def _detect_end(self, snapshot: JobSnapshot) -> Finished | None:
        """Return how the run ended; None while it goes on, or as long as nobody knows.

        The cache may lag behind, or lack an object that could not be read. So a run has vanished only if the API server
        itself says so: raise `ExecutionVanishedError` then.
        """
        try:
            return await self._outcome.detect(snapshot)
        except ExecutionVanishedError as error:
            if time.monotonic() < self._verify_at:
                return None
            self._verify_at = time.monotonic() + self._settings.kubernetes_probe_seconds

            current = await self._current_state(snapshot)
            finished = await self._outcome.detect(current)
            log.warning("cache_lags_behind", job=self._job_name, cached=str(error))
            return finished

    async def _current_state(self, snapshot: JobSnapshot) -> JobSnapshot:
        """Return a snapshot with what the API server says of Job and pod now."""
        job = await self._jobs.read(self._job_name)
        if job is None or job.uid != self._log.job_uid:
            job = snapshot.job and snapshot.job.as_deleted()
        pod = await self._jobs.pod(self._attempt.build_id, self._log.job_uid)
        return JobSnapshot(job, pod or (snapshot.pod and snapshot.pod.as_deleted()), snapshot.warnings)

    async def _obstacle_without_job(self) -> Obstacle | None:
        """Return the obstacle of a Job that no watch shows. Raise `ExecutionVanishedError` if the Job is gone.

        If the Job was refused, try at intervals to create it. If it is too new for the watch, it has no obstacle.
        """
        refusal = self._jobs.refusal(self._attempt)
        if refusal is None:
            job = await self._jobs.read(self._job_name)
            if job is None or job.uid != self._log.job_uid:
                raise ExecutionVanishedError("its Job is gone")
            return None

        if time.monotonic() < self._create_again_at:
            return refusal
        self._create_again_at = time.monotonic() + self._settings.kubernetes_probe_seconds
        if not await self._jobs.retry(self._attempt):
            return refusal
        await self._identify()
        return None

    @property
    def _must_store_job(self) -> bool:
        """Whether the record of the build should name the Job, although the Job has printed nothing yet."""
        return self._log.job_uid != self._stored_job_uid and time.monotonic() > self._settled_at

    @property
    def _cannot_print_yet(self) -> bool:
        """Whether an obstacle, or a container that does not exist yet, explains the silence: it is not a stall."""
        if time.monotonic() <= self._settled_at:
            return False
        pod = self._snapshot().pod
        return self._obstacle_timer.has_obstacle or pod is None or not (pod.has_started or pod.has_ended)

    def _may_lack_lines(self, finished: Finished) -> bool:
        """Whether the build may have printed lines that could not be read."""
        pod = self._snapshot().pod
        has_started = pod is not None and pod.has_started
        return not self._log.is_complete and (finished.ok or has_started)


async def _wait(wake: asyncio.Event) -> None:
    """Wait until something has changed, then a moment longer: changes in quick succession make one batch."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_POLL_SECONDS):
            await wake.wait()
        await asyncio.sleep(_BATCH_SECONDS)
