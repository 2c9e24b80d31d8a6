"""How a run ended, as its Job and its pod show it."""

import time
from collections.abc import Callable
from dataclasses import replace

from services.builder.executors.base import ExecutionVanishedError, Finished
from services.builder.executors.failure_classifier import classify_exit
from services.builder.executors.kubernetes.cluster_cache import JobSnapshot
from services.builder.executors.kubernetes.pod_log import PodLog
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import JobState, PodState

_DEADLINE_EXCEEDED = "DeadlineExceeded"


class OutcomeDetector:
    """Detects the end of one run from its snapshots.

    The pod's own exit is the best evidence. If the pod was removed, only its Job knows why; without either of them the
    run has vanished.
    """

    def __init__(self, *, log: PodLog, settings: KubernetesSettings, redact: Callable[[str], str]) -> None:
        self._log = log
        self._settings = settings
        self._redact = redact
        self._end_seen_at: float | None = None
        """When a snapshot first showed that the pod has ended: its log and its Job get a limited time from then on."""
        self._has_exited_by_itself = False
        """Whether the pod was seen with an exit status before anything removed it: its build has ended then."""

    async def detect(self, snapshot: JobSnapshot) -> Finished | None:
        """Return how the run ended; None while it goes on, or its end can't be explained yet.

        Raise `ExecutionVanishedError` for a run that was deleted, or whose pod was removed.
        """
        job = snapshot.job
        pod = snapshot.pod
        if pod and (pod.exit_code is not None or pod.has_ended):
            if self._end_seen_at is None:
                self._end_seen_at = time.monotonic()
            finished = await self._outcome_of_pod(pod, job)
            if finished:
                return finished
        elif pod:
            self._check_deletion(pod)

        if job and (pod is None or pod.is_deleted):
            return self._outcome_of_job(job)
        return None

    def _check_deletion(self, pod: PodState) -> None:
        """Raise `ExecutionVanishedError` if the node of a deleted pod does not confirm in time that it has ended."""
        confirm_seconds = self._settings.kubernetes_lost_seconds + self._settings.kubernetes_grace_seconds
        # The cluster's clock against this host's, whose difference is small beside what is waited for.
        if pod.deleting_since and time.time() - pod.deleting_since > confirm_seconds:  # noqa: TID251
            raise ExecutionVanishedError("its pod was deleted, and the node does not say that it is gone")

    def _has_ended_for(self, seconds: float) -> bool:
        """Return whether `seconds` have passed since the pod was first seen to have ended."""
        return self._end_seen_at is not None and time.monotonic() - self._end_seen_at >= seconds

    async def _outcome_of_pod(self, pod: PodState, job: JobState | None) -> Finished | None:
        """Return how an ended pod ended, once its log has been read as far as possible."""
        if pod.exit_code is not None and not pod.is_being_removed:
            self._has_exited_by_itself = True

        can_read_more = pod.exit_code is not None and not pod.is_deleted
        is_log_overdue = self._has_ended_for(self._settings.build_log_end_seconds)
        if can_read_more and not self._log.is_complete and not is_log_overdue:
            return None

        if pod.exit_code == 0:
            return Finished(ok=True)
        if pod.reason == "Evicted":
            return Finished(False, "build_evicted", f"The build was evicted from its node: {pod.message}")

        is_out_of_memory = pod.exit_reason == "OOMKilled"
        is_own_exit = self._has_exited_by_itself or not pod.is_being_removed or is_out_of_memory
        if pod.exit_code is None or not is_own_exit:
            return self._outcome_of_removed_pod(pod, job)

        tail = None if pod.is_deleted else await self._log.tail(pod)
        if tail is None and can_read_more and not is_log_overdue:
            return None

        read_lines = self._log.read_lines
        finished = classify_exit(
            pod.exit_code,
            tail or read_lines,
            is_tail_read=tail is not None or (self._log.is_complete and bool(read_lines)),
            is_out_of_memory=is_out_of_memory,
            memory_limit=pod.memory_limit or "",
        )
        return replace(finished, error_message=finished.error_message and self._redact(finished.error_message))

    def _outcome_of_removed_pod(self, pod: PodState, job: JobState | None) -> Finished | None:
        """Explain why a pod was deleted, preempted or shut down with its node: a Job past its deadline, or another."""
        if job and job.failure == _DEADLINE_EXCEEDED:
            return self._timeout()
        is_job_overdue = self._has_ended_for(self._settings.kubernetes_lost_seconds)
        if job and not job.is_deleted and job.failure is None and not is_job_overdue:
            return None  # the Job will soon say why
        if job and job.is_deleted:
            raise ExecutionVanishedError("its Job was deleted")

        reason = pod.reason or pod.message
        raise ExecutionVanishedError(f"its pod was taken away ({reason})" if reason else "its pod was taken away")

    def _outcome_of_job(self, job: JobState) -> Finished | None:
        """Return how a Job without a pod ended."""
        if job.is_complete:
            return Finished(ok=True)
        if job.failure == _DEADLINE_EXCEEDED:
            return self._timeout()
        if job.is_deleted:
            raise ExecutionVanishedError("its Job was deleted")
        if job.failure is not None:
            raise ExecutionVanishedError(f"its pod is gone ({job.failure})")
        return None

    def _timeout(self) -> Finished:
        seconds = self._settings.deadline_seconds
        return Finished(False, "build_timeout", f"The Job was not done after {seconds} s.")
