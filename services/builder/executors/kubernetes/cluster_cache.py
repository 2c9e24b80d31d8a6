"""What one process sees of its builds in the cluster: three watches, and a wake-up for whoever follows a Job."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import Api, ApiError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import INSTALLATION, JobState, PodState, WarningEvent
from services.builder.executors.kubernetes.watch import Watch, WatchedObject
from services.common.service.tasks import sleep_unless_cancelled

JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
PODS = "/api/v1/namespaces/{namespace}/pods"
EVENTS = "/api/v1/namespaces/{namespace}/events"
_WARNINGS_KEPT = 5000


@dataclass(frozen=True)
class JobSnapshot:
    """What is known of one Job. Any of it may be missing: not told yet, or never there."""

    job: JobState | None
    pod: PodState | None
    warnings: tuple[WarningEvent, ...]


class ClusterCache:
    """Begins to watch with the first follower; a process that only asks what there is watches nothing."""

    def __init__(self, api: Api, settings: KubernetesSettings, installation: str) -> None:
        self._api, self._settings = api, settings
        self._ours = {"labelSelector": f"{INSTALLATION}={installation}"}
        self._wakes: dict[str, set[asyncio.Event]] = {}
        self._pod_of: dict[str, str] = {}
        self._warned: dict[str, dict[str, WarningEvent]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_at = 0.0
        self._away: str | None = None
        heard, warnings = self._heard, {"fieldSelector": "type=Warning"}
        self._jobs = Watch(api, settings, JOBS, self._ours, JobState.of, self._wake, heard)
        self._pods = Watch(api, settings, PODS, self._ours, PodState.of, self._saw_pod, heard)
        self._events = Watch(api, settings, EVENTS, warnings, WarningEvent.of, self._saw_warning, heard)

    @contextlib.contextmanager
    def following(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something about this Job has changed."""
        self._begin()
        wake = asyncio.Event()
        self._wakes.setdefault(job, set()).add(wake)
        try:
            yield wake
        finally:
            self._wakes[job].discard(wake)
            if not self._wakes[job]:
                del self._wakes[job]

    async def ready(self) -> None:
        """Wait for the first lists. Raises `ExecutorUnavailableError`."""
        self._begin()
        try:
            async with asyncio.timeout(self._settings.kubernetes_read_timeout_seconds):
                for watch in (self._jobs, self._pods, self._events):
                    await watch.is_listed.wait()
        except TimeoutError:
            raise ExecutorUnavailableError(self._away or "the API server does not answer") from None

    def check(self) -> None:
        """Raise `ExecutorUnavailableError` while the API server does not answer."""
        if self._away:
            raise ExecutorUnavailableError(self._away)

    def snapshot(self, job: str, uid: str) -> JobSnapshot:
        """What is known of a Job and its pod; of another that has, or had, the same name: nothing."""
        found = self._jobs.objects.get(job)
        pod = self._pods.objects.get(self._pod_of.get(uid, "")) if uid else None
        warnings = list(self._warned.get(job, {}).values())
        if pod:
            warnings += self._warned.get(pod.name, {}).values()
        return JobSnapshot(found if found and found.uid == uid else None, pod, tuple(warnings))

    async def aclose(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _begin(self) -> None:
        if not self._tasks:
            work = (self._jobs.run(), self._pods.run(), self._events.run(), self._probe())
            self._tasks = [asyncio.create_task(one) for one in work]

    async def _probe(self) -> None:
        """A watch says nothing for minutes while nothing changes: a silence is broken by asking."""
        while True:
            await sleep_unless_cancelled(self._settings.kubernetes_probe_seconds)
            if time.monotonic() - self._heard_at < self._settings.kubernetes_probe_seconds and not self._away:
                continue
            try:
                await self._api.call("GET", PODS, query=self._ours | {"limit": "1", "resourceVersion": "0"})
                self._heard(None)
            except ExecutorUnavailableError as error:
                self._heard(str(error))
            except ApiError as error:
                self._heard(f"the API server refuses ({error.message})")

    def _heard(self, trouble: str | None) -> None:
        if trouble is None:
            self._heard_at = time.monotonic()
        if trouble != self._away:
            self._away = trouble
            for wakes in self._wakes.values():
                for wake in wakes:
                    wake.set()

    def _wake(self, one: WatchedObject) -> None:
        for owner in (one.owner, one.owner.rpartition("-")[0]):  # a warning about a pod names the pod
            for wake in self._wakes.get(owner, ()):
                wake.set()

    def _saw_pod(self, pod: PodState) -> None:
        known = self._pods.objects.get(self._pod_of.get(pod.job_uid, ""))
        if known is None or known.name == pod.name or known.is_gone or pod.created < known.created:
            self._pod_of[pod.job_uid] = pod.name
        if len(self._pod_of) > 2 * len(self._pods.objects) + 100:
            self._pod_of = {uid: name for uid, name in self._pod_of.items() if name in self._pods.objects}
        self._wake(pod)

    def _saw_warning(self, warned: WarningEvent) -> None:
        if not warned.object_name.startswith("bindery-"):
            return
        if not self._events.is_listed.is_set():  # what comes with the first list came at any time before
            warned = warned.aged_by_stamp()
        while len(self._warned) >= _WARNINGS_KEPT:
            del self._warned[next(iter(self._warned))]
        self._warned.setdefault(warned.object_name, {})[warned.reason] = warned
        self._wake(warned)
