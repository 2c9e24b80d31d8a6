"""The owner of all Jobs: a ConfigMap of the operator's, with which Kubernetes' garbage collector removes them.

A Job owns its pod and its Secret, so they go with it.
Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

import time
from collections.abc import Sequence

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import CONFIG_MAPS, Api, ApiError
from services.builder.executors.kubernetes.obstacles import Obstacle
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import Json
from services.common.net.http import only_dict
from services.common.service.logging import get_logger
from services.common.service.single_flight import SingleFlight

log = get_logger(__name__)


class UnusableOwnerError(Exception):
    """The ConfigMap is missing, or may not be read: nothing may be made that would have no owner."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.sentence)
        self.obstacle = obstacle


class Owner:
    """The ConfigMap that owns the Jobs, if the settings name one; its uid is read at intervals, by one call for all."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._name = settings.kubernetes_owner
        self._reads: SingleFlight[None] = SingleFlight()
        self._uid = ""
        self._obstacle: Obstacle | None = None
        self._read_again_at = 0.0

    async def references(self, *, is_uid_doubtful: bool = False) -> Sequence[Json]:
        """Return the `ownerReferences` of a Job; none without a ConfigMap in the settings.

        With `is_uid_doubtful`, a uid that is remembered does not count: whoever has deleted a ConfigMap and made it
        anew has it another uid, and a Job that names the old one is removed at once. Raise `UnusableOwnerError`, and
        `ExecutorUnavailableError`: all who wait for one read have its end, so that an outage costs each one timeout.
        """
        if not self._name:
            return ()

        is_doubtful = is_uid_doubtful and self._obstacle is None
        if is_doubtful or time.monotonic() >= self._read_again_at:
            await self._reads.run(self._name, self._read)
        if self._obstacle:
            raise UnusableOwnerError(self._obstacle)
        return ({"apiVersion": "v1", "kind": "ConfigMap", "name": self._name, "uid": self._uid},)

    async def _read(self) -> None:
        problem = ""
        try:
            metadata = only_dict((await self._api.call("GET", f"{CONFIG_MAPS}/{self._name}")).get("metadata"))
            self._uid = str(metadata.get("uid") or "")
            if metadata.get("deletionTimestamp"):
                problem = "is being deleted, as it is when the installation is removed"
            elif not self._uid:
                raise ExecutorUnavailableError(f"the ConfigMap {self._name} has no uid that can be read")
        except ApiError as error:
            problem = _problem(error)
            log.error("owner_unusable", config_map=self._name, status=error.status, error=error.message)

        self._obstacle = self._obstacle_for(problem) if problem else None
        settings = self._settings
        remembered_seconds = settings.kubernetes_probe_seconds if problem else settings.kubernetes_owner_seconds
        self._read_again_at = time.monotonic() + remembered_seconds

    def _obstacle_for(self, problem: str) -> Obstacle:
        sentence = f"The ConfigMap {self._name}, to which builds belong, {problem}."
        return Obstacle("executor_unavailable", sentence, self._settings.kubernetes_start_seconds)


def _problem(error: ApiError) -> str:
    """Return what a refusal says of the ConfigMap. Raise `ExecutorUnavailableError` for one that says nothing of it."""
    if error.status == 404:
        return "does not exist: the installation is being removed, or somebody has deleted it"
    if error.status == 403:
        return "may not be read: builder workers lack the right to `get` it (`configmaps`)"
    raise ExecutorUnavailableError(f"the API server refuses ({error.message})") from None
