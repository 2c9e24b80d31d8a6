"""The executor: one Job for each run of an attempt, found again by name and label."""

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
    """Keeps the executors' contract with `batch/v1` Jobs; a position is a line of one Job's log.

    A Job is never made twice for one run without that being noticed: the position names the one that it is of.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._api = Api(settings)
        self._jobs = Jobs(self._api, settings)
        self._cluster = ClusterCache(self._api, settings, installation_label(settings.installation_id))

    async def ensure(self, attempt: Attempt) -> None:
        """Make the run's Job unless there is one. Raises `BinderyError` for one that can't be made."""
        await self._jobs.ensure(attempt)

    def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the pod's log and what is in the build's way, and how it ended. Raises `ExecutionVanishedError`."""
        return RunFollower(self._api, self._jobs, self._cluster, self._settings, attempt, position).news()

    async def stop(self, attempt: Attempt) -> None:
        """Delete the Jobs of all runs, and wait until no process of theirs can run.

        Leaves them alone when another worker has claimed the attempt since.
        """
        jobs = await self._jobs.list(attempt.build_id)
        if any(job.epoch > attempt.epoch for job in jobs):
            log.warning("stop_outdated", build_id=attempt.build_id, epoch=attempt.epoch)
            return
        self._jobs.forget(attempt.build_id)
        for job in jobs:
            await self._jobs.delete(job.name)
        await self._jobs.until_gone(attempt.build_id, self._settings.build_stop_seconds)

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return the attempts that have a Job, or those at one image."""
        found: dict[str, Execution] = {}
        for job in await self._jobs.list(image_key=image_key):
            known = found.get(job.build_id, Execution(job.build_id, 0, is_alive=False))
            is_alive = known.is_alive or not job.is_ended
            found[job.build_id] = Execution(job.build_id, max(known.epoch, job.epoch), is_alive)
        return list(found.values())

    async def remove(self, build_id: str) -> None:
        """Delete an attempt's Jobs whose pods have ended; one that runs stays. Their Secrets go with them."""
        running = {pod.job for pod in await self._jobs.pods(build_id) if not pod.has_ended and pod.exit_code is None}
        for job in await self._jobs.list(build_id):
            if job.name not in running:
                await self._jobs.delete(job.name)

    async def aclose(self) -> None:
        """Close the watches and connections; Jobs go on."""
        await self._cluster.aclose()
        await self._jobs.aclose()
        await self._api.aclose()

    async def trouble(self) -> str | None:
        """For health: a sentence when the API server does not answer, or refuses."""
        return await self._jobs.trouble()
