"""A cache of the Jobs, pods and warnings of one installation's builds, kept current by three watches."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from cachetools import FIFOCache

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import EVENTS, JOBS, PODS, Api, ApiError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import INSTALLATION, JobState, PodState, WarningEvent
from services.builder.executors.kubernetes.watch import Watch, WatchedObject
from services.common.service.tasks import cancel_and_wait, sleep_unless_cancelled

_MAX_WARNED_OBJECTS = 5000


@dataclass(frozen=True)
class JobSnapshot:
    """The state of one Job. Each part may be missing: not received yet, or not in the cluster."""

    job: JobState | None
    pod: PodState | None
    warnings: tuple[WarningEvent, ...]


class ClusterCache:
    """The Jobs and pods of this installation, and the warnings about them, with a wake-up for followers of a Job.

    The watches start with the first follower: a process that follows no build watches nothing.
    """

    def __init__(self, api: Api, settings: KubernetesSettings, installation: str) -> None:
        self._api = api
        self._settings = settings
        self._our_objects = {"labelSelector": f"{INSTALLATION}={installation}"}
        self._tasks: list[asyncio.Task[None]] = []
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._answered_at = 0.0
        self._outage: str | None = None

        self._pod_names: dict[str, str] = {}
        """The name of each Job's pod, by the Job's uid."""
        self._warnings: MutableMapping[str, dict[str, WarningEvent]] = FIFOCache(_MAX_WARNED_OBJECTS)
        """The newest warning of each reason, by the name of the Job or pod that it is about.

        Events of the whole namespace arrive, and nothing says when one will not be needed any more: so the objects
        that were warned about first are dropped. A cause that lasts is warned about again.
        """

        self._jobs = Watch(
            api=api,
            settings=settings,
            path=JOBS,
            selector=self._our_objects,
            parse=JobState.parse,
            on_change=self._wake_followers,
            on_health=self._on_health,
        )
        self._pods = Watch(
            api=api,
            settings=settings,
            path=PODS,
            selector=self._our_objects,
            parse=PodState.parse,
            on_change=self._on_pod,
            on_health=self._on_health,
        )
        self._events = Watch(
            api=api,
            settings=settings,
            path=EVENTS,
            selector={"fieldSelector": "type=Warning"},
            parse=WarningEvent.parse,
            on_change=self._on_warning,
            on_health=self._on_health,
        )

    @contextlib.contextmanager
    def subscribe(self, job: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the state of this Job has changed, or whether the API server answers."""
        self._start()
        wake = asyncio.Event()
        self._followers.setdefault(job, set()).add(wake)
        try:
            yield wake
        finally:
            self._followers[job].discard(wake)
            if not self._followers[job]:
                del self._followers[job]

    async def ready(self) -> None:
        """Wait for the first lists. Raise `ExecutorUnavailableError`."""
        self._start()
        try:
            async with asyncio.timeout(self._settings.kubernetes_read_timeout_seconds):
                for watch in (self._jobs, self._pods, self._events):
                    await watch.is_listed.wait()
        except TimeoutError:
            raise ExecutorUnavailableError(self._outage or "the API server does not answer") from None

    def check(self) -> None:
        """Raise `ExecutorUnavailableError` while the API server does not answer."""
        if self._outage:
            raise ExecutorUnavailableError(self._outage)

    def snapshot(self, job_name: str, uid: str) -> JobSnapshot:
        """Return the state of the Job with this uid; another one of the same name does not count."""
        job = self._jobs.objects.get(job_name)
        if job and job.uid != uid:
            job = None
        pod = self._pods.objects.get(self._pod_names.get(uid, "")) if uid else None

        warnings = list(self._warnings.get(job_name, {}).values())
        if pod:
            warnings += self._warnings.get(pod.name, {}).values()
        return JobSnapshot(job, pod, tuple(warnings))

    async def aclose(self) -> None:
        """Stop the watches."""
        await cancel_and_wait(*self._tasks)
        self._tasks = []

    def _start(self) -> None:
        if not self._tasks:
            work = (self._jobs.run(), self._pods.run(), self._events.run(), self._probe())
            self._tasks = [asyncio.create_task(activity) for activity in work]

    async def _probe(self) -> None:
        """Ask the API server whether it answers, once it was silent: watches are, while nothing changes."""
        probe_seconds = self._settings.kubernetes_probe_seconds
        while True:
            await sleep_unless_cancelled(probe_seconds)
            if time.monotonic() - self._answered_at < probe_seconds and not self._outage:
                continue
            try:
                await self._api.call("GET", PODS, query=self._our_objects | {"limit": "1", "resourceVersion": "0"})
                self._on_health(None)
            except ExecutorUnavailableError as error:
                self._on_health(str(error))
            except ApiError as error:
                self._on_health(f"the API server refuses ({error.message})")

    def _on_health(self, outage: str | None) -> None:
        if outage is None:
            self._answered_at = time.monotonic()
        if outage == self._outage:
            return

        self._outage = outage
        for wakes in self._followers.values():
            for wake in wakes:
                wake.set()

    def _wake_followers(self, changed: WatchedObject) -> None:
        names = (changed.owner, changed.owner.rpartition("-")[0])  # a warning about a pod names only the pod
        for name in names:
            for wake in self._followers.get(name, ()):
                wake.set()

    def _on_pod(self, pod: PodState) -> None:
        current = self._pods.objects.get(self._pod_names.get(pod.job_uid, ""))
        if current is None or current.name == pod.name or current.is_deleted or pod.created < current.created:
            self._pod_names[pod.job_uid] = pod.name

        if len(self._pod_names) > 2 * len(self._pods.objects) + 100:
            self._pod_names = {uid: name for uid, name in self._pod_names.items() if name in self._pods.objects}
        self._wake_followers(pod)

    def _on_warning(self, warning: WarningEvent) -> None:
        if not warning.object_name.startswith("bindery-"):
            return
        is_from_first_list = not self._events.is_listed.is_set()
        if is_from_first_list:
            warning = warning.aged_by_stamp()
        self._warnings.setdefault(warning.object_name, {})[warning.reason] = warning
        self._wake_followers(warning)
