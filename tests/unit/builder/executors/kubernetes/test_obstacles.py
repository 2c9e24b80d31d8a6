"""What is in a build's way is told once it lasts, and becomes an error past its bound."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from services.builder.executors.base import Finished, Line
from services.builder.executors.kubernetes import obstacles
from services.builder.executors.kubernetes.cluster_cache import JobSnapshot
from services.builder.executors.kubernetes.obstacles import RECENT_SECONDS, Obstacle, ObstacleTimer, obstacle_of
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import PodState, WarningEvent

SETTINGS = KubernetesSettings()
STARTED: dict[str, object] = {"running": {}}


def pod(state: dict[str, object] | None = None, **status: object) -> PodState:
    """A pod as the API server tells of it."""
    containers = [{"name": "builder", "state": state}] if state else []
    return PodState.parse(
        {
            "metadata": {"name": "bindery-x-1", "labels": {"job-name": "bindery-x"},
                         "creationTimestamp": "2026-11-23T23:00:00Z"},
            "spec": {"containers": [{"name": "builder", "resources": {"limits": {"memory": "1Gi"}}}]},
            "status": {"containerStatuses": containers} | status,
        }
    )  # fmt: skip


def code_of(state: PodState | None, *warnings: WarningEvent) -> str | None:
    obstacle = obstacle_of(JobSnapshot(None, state, warnings), SETTINGS)
    return obstacle.code if obstacle else None


def warning(reason: str, message: str) -> WarningEvent:
    return WarningEvent(name="w", object_name="bindery-x", reason=reason, message=message, received_at=time.monotonic())


def test_each_obstacle_has_the_code_of_who_can_move_it() -> None:
    unschedulable = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]
    assert code_of(pod(conditions=unschedulable)) == "build_unschedulable"
    assert code_of(pod({"waiting": {"reason": "ImagePullBackOff"}})) == "builder_image_unavailable"
    assert code_of(pod({"waiting": {"reason": "CreateContainerConfigError"}})) == "executor_unavailable"
    mount = warning("FailedMount", 'secret "push" not found')
    assert code_of(pod({"waiting": {"reason": "ContainerCreating"}}), mount) == "executor_unavailable"
    assert code_of(None, warning("FailedCreate", "forbidden: exceeded quota: q")) == "build_quota_exceeded"
    assert code_of(None, warning("FailedCreate", "violates PodSecurity")) == "executor_unavailable"


def test_what_is_over_is_no_obstacle_any_more() -> None:
    mount = warning("FailedMount", "not yet there")
    assert code_of(pod(STARTED), mount) is None
    assert code_of(pod({"waiting": {"reason": "ContainerCreating"}})) is None
    assert code_of(None) is None


def test_a_warning_that_has_not_come_again_lately_is_over() -> None:
    creating = pod({"waiting": {"reason": "ContainerCreating"}})
    mount = warning("FailedMount", "not there yet")
    old = replace(mount, received_at=mount.received_at - RECENT_SECONDS - 1)
    assert code_of(creating, old) is None
    assert code_of(creating, mount.as_deleted()) is None
    other = warning("FailedCreatePodSandBox", "no network")
    obstacle = obstacle_of(JobSnapshot(None, creating, (mount, old, other)), SETTINGS)
    assert obstacle
    assert "no network" in obstacle.sentence, "the newest counts"


@pytest.mark.parametrize("stamps", [
    {"series": {"lastObservedTime": "2026-11-23T23:00:05.000000Z"}, "eventTime": "2026-11-23T23:00:01.000000Z"},
    {"lastTimestamp": "2026-11-23T23:00:05Z", "firstTimestamp": "2026-11-23T23:00:01Z", "eventTime": None},
    {"lastTimestamp": None, "eventTime": "2026-11-23T23:00:05.000000Z"},
])  # fmt: skip
def test_a_warning_is_as_old_as_its_last_repetition(stamps: dict[str, object]) -> None:
    metadata = {"name": "e", "creationTimestamp": "2026-11-23T23:00:00Z"}
    event = WarningEvent.parse({"metadata": metadata, "involvedObject": {"name": "bindery-x"}} | stamps)
    assert event.reported_at == pod().created + 5
    moved_seconds = event.aged_by_stamp().received_at - event.received_at
    assert moved_seconds == pytest.approx(event.reported_at - time.time(), abs=5)


def test_a_node_that_is_back_is_in_nobody_s_way() -> None:
    away = warning("NodeNotReady", "Node is not ready")
    ready = [{"type": "Ready", "status": "True"}]
    assert code_of(pod(STARTED, conditions=[{"type": "Ready", "status": "False"}]), away) == "node"
    assert code_of(pod(STARTED, conditions=ready), away) is None


def test_a_warning_of_the_beginning_does_not_end_a_build_whose_image_is_pulled_and_one_that_comes_again_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(obstacles, "time", SimpleNamespace(monotonic=lambda: now))
    settings = KubernetesSettings(kubernetes_start_seconds=60)
    creating = pod({"waiting": {"reason": "ContainerCreating"}})

    def outcome(warning_seconds: list[float]) -> Finished | None:
        """What becomes of a build in 500 s during which warnings are heard at these seconds."""
        nonlocal now
        timer = ObstacleTimer(settle_seconds=3)
        for now in range(1000, 1500):
            times = [1000 + at for at in warning_seconds if 1000 + at <= now]
            mount = WarningEvent(
                name="w", object_name="bindery-x", reason="FailedMount", message="no Secret", received_at=times[-1]
            )
            update = timer.observe(obstacle_of(JobSnapshot(None, creating, (mount,)), settings))
            if isinstance(update, Finished):
                return update
        return None

    assert outcome([0, 0.5, 1.5]) is None
    lasting = outcome([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 127.5, 249.5, 371.5, 493.5])
    assert lasting
    assert lasting.error_code == "executor_unavailable"
    assert "so for 61 s" in str(lasting.error_message)


def test_an_obstacle_is_told_once_it_lasts_once_and_ends_the_build_past_its_bound() -> None:
    obstacle = Obstacle("build_unschedulable", "No node has room", 60)
    timer = ObstacleTimer(settle_seconds=0)
    assert timer.observe(obstacle) == Line("waiting", "No node has room. Waiting ...\n")
    assert timer.observe(obstacle) is None
    assert ObstacleTimer(settle_seconds=5).observe(obstacle) is None
    outcome = ObstacleTimer(settle_seconds=0).observe(Obstacle("build_unschedulable", "No node has room", -1))
    assert isinstance(outcome, Finished)
    assert outcome.error_code == "build_unschedulable"


def test_an_obstacle_that_comes_again_is_told_again() -> None:
    obstacle = Obstacle("build_unschedulable", "No node has room", 60)
    timer = ObstacleTimer(settle_seconds=0)
    assert timer.observe(obstacle)
    assert timer.observe(None) is None
    assert timer.observe(obstacle)
