"""The end of a run is read from its pod, or from its Job once the pod is gone, and is never guessed too early."""

from dataclasses import replace

import pytest

from services.builder.executors.base import ExecutionVanishedError, Finished
from services.builder.executors.kubernetes.api import Api
from services.builder.executors.kubernetes.cluster_cache import JobSnapshot
from services.builder.executors.kubernetes.logs import PodLogPosition
from services.builder.executors.kubernetes.outcome import OutcomeDetector
from services.builder.executors.kubernetes.pod_log import PodLog
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import JobState, PodState

SETTINGS = KubernetesSettings(kubernetes_deadline_seconds=60)
IMPATIENT = KubernetesSettings(build_log_end_seconds=0).model_copy(update={"kubernetes_lost_seconds": -1})
"""With these the log and the Job of an ended pod are not waited for."""

JOB = JobState(name="bindery-x", uid="uid", build_id="x", epoch=1, secret="secret")
TIMED_OUT = replace(JOB, failure="DeadlineExceeded")
FAILED = replace(JOB, failure="BackoffLimitExceeded")
POD = PodState(
    name="bindery-x-1", job="bindery-x", job_uid="uid", build_id="x", phase="Running", created=0.0, has_started=True
)
REMOVED = replace(POD, is_deleted=True)
EVICTED = replace(POD, phase="Failed", reason="Evicted", message="no disk")


async def outcome_of(
    pod: PodState | None,
    job: JobState | None = JOB,
    *,
    settings: KubernetesSettings = SETTINGS,
    is_log_complete: bool = False,
) -> Finished | None:
    log = PodLog(api=Api(settings), settings=settings, position=PodLogPosition(), redact=str)
    log.is_complete = is_log_complete
    detector = OutcomeDetector(log=log, settings=settings, redact=str)
    return await detector.detect(JobSnapshot(job, pod, ()))


async def test_a_run_goes_on_while_its_pod_does() -> None:
    assert await outcome_of(POD) is None
    assert await outcome_of(None) is None
    assert await outcome_of(None, None) is None


async def test_a_pod_that_has_ended_counts_once_its_log_is_read() -> None:
    succeeded = replace(POD, phase="Succeeded", exit_code=0)
    assert await outcome_of(succeeded) is None
    assert await outcome_of(succeeded, is_log_complete=True) == Finished(ok=True)
    assert await outcome_of(replace(succeeded, is_deleted=True)) == Finished(ok=True), "no more of it can be read"
    assert await outcome_of(succeeded, settings=IMPATIENT) == Finished(ok=True)


@pytest.mark.parametrize(
    ("pod", "job", "code"),
    [
        (EVICTED, JOB, "build_evicted"),
        (REMOVED, TIMED_OUT, "build_timeout"),
        (None, TIMED_OUT, "build_timeout"),
        (replace(REMOVED, exit_code=137, exit_reason="OOMKilled"), JOB, "build_out_of_memory"),
        (replace(REMOVED, exit_code=137), TIMED_OUT, "build_timeout"),
    ],
)
async def test_each_end_has_its_error_code(pod: PodState | None, job: JobState, code: str) -> None:
    outcome = await outcome_of(pod, job)
    assert outcome
    assert outcome.error_code == code


async def test_a_job_without_a_pod_may_be_complete() -> None:
    assert await outcome_of(None, replace(JOB, is_complete=True)) == Finished(ok=True)


@pytest.mark.parametrize(
    ("pod", "job", "reason"),
    [
        (REMOVED, replace(JOB, is_deleted=True), "its Job was deleted"),
        (None, replace(JOB, is_deleted=True), "its Job was deleted"),
        (replace(REMOVED, reason="NodeLost"), None, r"its pod was taken away \(NodeLost\)"),
        (REMOVED, FAILED, "its pod was taken away"),
        (None, FAILED, r"its pod is gone \(BackoffLimitExceeded\)"),
        (replace(POD, deleting_since=1.0), JOB, "the node does not say that it is gone"),
    ],
)
async def test_a_run_without_a_result_has_vanished(pod: PodState | None, job: JobState | None, reason: str) -> None:
    with pytest.raises(ExecutionVanishedError, match=reason):
        await outcome_of(pod, job)


async def test_a_job_whose_pod_was_removed_gets_time_to_say_why() -> None:
    assert await outcome_of(REMOVED, JOB) is None
    with pytest.raises(ExecutionVanishedError, match="its pod was taken away"):
        await outcome_of(REMOVED, JOB, settings=IMPATIENT)
