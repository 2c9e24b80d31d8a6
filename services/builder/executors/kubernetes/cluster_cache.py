"""A cache of the Jobs, pods and warnings of one installation's builds, kept current by three watches."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

from cachetools import FIFOCache

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import EVENTS, JOBS, PODS, Api, ApiError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import INSTALLATION, JobState, PodState, WarningEvent
from services.builder.executors.kubernetes.unreadable import ObjectReader
from services.builder.executors.kubernetes.watch import STALENESS, Watch, WatchedObject
from services.common.service.loops import background_state, run_forever
from services.common.service.tasks import cancel_and_wait

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
        self._tasks: list[asyncio.Task[NoReturn]] = []
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._is_closing = False
        self._answered_at = 0.0
        self._probe_outage: str | None = None
        self._had_problem = False

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
            reader=ObjectReader("jobs", JobState.parse),
            on_change=self._wake_followers,
            on_health=self._on_health,
        )
        self._pods = Watch(
            api=api,
            settings=settings,
            path=PODS,
            selector=self._our_objects,
            reader=ObjectReader("pods", PodState.parse),
            on_change=self._on_pod,
            on_health=self._on_health,
        )
        self._events = Watch(
            api=api,
            settings=settings,
            path=EVENTS,
            selector={"fieldSelector": "type=Warning"},
            reader=ObjectReader("events", WarningEvent.parse),
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
                for watch in self._watches:
                    await watch.is_listed.wait()
        except TimeoutError:
            raise ExecutorUnavailableError(self.problem() or "the API server does not answer") from None

    def check(self) -> None:
        """Raise `ExecutorUnavailableError` while the cache can't be relied on."""
        if problem := self.problem():
            raise ExecutorUnavailableError(problem)

    def problem(self) -> str | None:
        """Return why the cache can't be relied on: an outage, or a watch that has ended or gone stale; else None."""
        if not self._tasks:
            return None

        stale_seconds = self._settings.kubernetes_stale_seconds
        outages = [watch.outage for watch in self._watches if watch.outage]
        ended = [f"the {task.get_name()} has ended" for task in self._tasks if task.done()]
        stale = [
            f"the watch of {watch.resource} has received nothing for {watch.staleness_seconds:.0f} s"
            for watch in self._watches
            if watch.staleness_seconds > stale_seconds
        ]
        return next(iter([*ended, *outages, *stale]), self._probe_outage)

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
        self._is_closing = True
        await cancel_and_wait(*self._tasks)
        for watch in self._watches if self._tasks else ():
            STALENESS.remove(watch.resource)
        self._tasks = []

    @property
    def _watches(self) -> tuple[Watch[JobState], Watch[PodState], Watch[WarningEvent]]:
        return self._jobs, self._pods, self._events

    def _start(self) -> None:
        if self._tasks:
            return
        for watch in self._watches:
            self._begin(watch.run(), name=f"watch of {watch.resource}")
        probe_seconds = self._settings.kubernetes_probe_seconds
        name = "probe of the API server"
        self._begin(run_forever(self._probe, name=name, wait=probe_seconds), name=name)

    def _begin(self, work: Coroutine[Any, Any, NoReturn], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_end)
        self._tasks.append(task)

    def _on_end(self, task: asyncio.Task[NoReturn]) -> None:
        """End the process: without one of its tasks, the cache shows what has been, as if it were so still."""
        if self._is_closing:
            return
        background_state().on_end(task)
        self._wake_all()

    async def _probe(self) -> None:
        """Ask the API server whether it answers, if it is silent: watches are, while nothing changes."""
        is_silent = time.monotonic() - self._answered_at >= self._settings.kubernetes_probe_seconds
        if not is_silent and not self._probe_outage:
            return
        try:
            await self._api.call("GET", PODS, query=self._our_objects | {"limit": "1", "resourceVersion": "0"})
            self._probe_outage = None
        except ExecutorUnavailableError as error:
            self._probe_outage = str(error)
        except ApiError as error:
            self._probe_outage = f"the API server refuses ({error.message})"
        self._wake_if_health_changed()

    def _on_health(self, outage: str | None) -> None:
        if outage is None:
            self._answered_at = time.monotonic()
            self._probe_outage = None
        self._wake_if_health_changed()

    def _wake_if_health_changed(self) -> None:
        has_problem = self.problem() is not None
        if has_problem != self._had_problem:
            self._had_problem = has_problem
            self._wake_all()

    def _wake_all(self) -> None:
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
