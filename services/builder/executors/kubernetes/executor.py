"""Builds as Jobs of a Kubernetes cluster: one for each run of an attempt, identified by name and labels."""

from collections.abc import AsyncIterator, Sequence

from services.builder.executors.base import Attempt, Batch, Execution, Finished
from services.builder.executors.kubernetes.api import Api
from services.builder.executors.kubernetes.cluster_cache import ClusterCache
from services.builder.executors.kubernetes.follower import RunFollower
from services.builder.executors.kubernetes.jobs import Jobs
from services.builder.executors.kubernetes.manifest import installation_label
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.common.service.logging import get_logger

log = get_logger(__name__)


class KubernetesExecutor:
    """The executor that runs builds in Jobs (`batch/v1`). A position is a line in the log of one Job.

    A second Job for the same run never goes unnoticed: the position names the Job that it belongs to.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._api = Api(settings)
        self._jobs = Jobs(self._api, settings)
        self._cluster = ClusterCache(self._api, settings, installation_label(settings.installation_id))

    async def prepare(self) -> None:
        """Do nothing: the first build connects."""

    async def ensure(self, attempt: Attempt) -> None:
        """Create the Job of the attempt's run, unless it exists.

        Raise `BinderyError` if Kubernetes refuses the Job in a way that no retry would change.
        """
        await self._jobs.ensure(attempt)

    def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the pod's log with notes about obstacles, and how it ended. Raise `ExecutionVanishedError`."""
        follower = RunFollower(
            api=self._api,
            jobs=self._jobs,
            cluster=self._cluster,
            settings=self._settings,
            attempt=attempt,
            position=position,
        )
        return follower.follow()

    async def stop(self, attempt: Attempt) -> None:
        """Delete the Jobs of all runs and wait until their pods are gone; a claim that was superseded stops nothing."""
        jobs = await self._jobs.list(attempt.build_id)
        if any(job.epoch > attempt.epoch for job in jobs):
            log.warning("stop_outdated", build_id=attempt.build_id, epoch=attempt.epoch)
            return

        self._jobs.forget(attempt.build_id)
        for job in jobs:
            await self._jobs.delete(job.name)
        await self._jobs.wait_until_gone(attempt.build_id, self._settings.build_stop_seconds)

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return the attempts of this installation that have Jobs, or those at one image."""
        executions: dict[str, Execution] = {}
        for job in await self._jobs.list(image_key=image_key):
            other = executions.get(job.build_id, Execution(job.build_id, 0, is_alive=False))
            is_alive = other.is_alive or not job.is_ended
            executions[job.build_id] = Execution(job.build_id, max(other.epoch, job.epoch), is_alive)
        return list(executions.values())

    async def remove(self, build_id: str) -> None:
        """Delete an attempt's ended Jobs, and their Secrets with them. A Job whose pod runs stays."""
        pods = await self._jobs.pods(build_id)
        running = {pod.job for pod in pods if not pod.has_ended and pod.exit_code is None}
        for job in await self._jobs.list(build_id):
            if job.name not in running:
                await self._jobs.delete(job.name)

    async def aclose(self) -> None:
        """Stop the watches and close connections; Jobs go on."""
        await self._cluster.aclose()
        await self._jobs.aclose()
        await self._api.aclose()

    async def health_problem(self) -> str | None:
        """Return a sentence if the API server does not answer, or refuses, or if builds are not watched."""
        return self._cluster.problem() or await self._jobs.health_problem()
