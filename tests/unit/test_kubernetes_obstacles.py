"""What is in a build's way is told once it lasts, and becomes an error past its bound."""

from services.builder.executors.base import Finished, Line
from services.builder.executors.kubernetes.obstacles import Obstacle, Patience, obstacle_of
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import PodState, Warned
from services.builder.executors.kubernetes.view import Seen

SETTINGS = KubernetesSettings()
STARTED: dict[str, object] = {"running": {}}


def pod(state: dict[str, object] | None = None, **status: object) -> PodState:
    """A pod as the API server tells of it."""
    containers = [{"name": "builder", "state": state}] if state else []
    return PodState.of(
        {
            "metadata": {"name": "bindery-x-1", "labels": {"job-name": "bindery-x"},
                         "creationTimestamp": "2026-11-23T23:00:00Z"},
            "spec": {"containers": [{"name": "builder", "resources": {"limits": {"memory": "1Gi"}}}]},
            "status": {"containerStatuses": containers} | status,
        }
    )  # fmt: skip


def code_of(found: PodState | None, *warnings: Warned) -> str | None:
    obstacle = obstacle_of(Seen(None, found, warnings), SETTINGS)
    return obstacle.code if obstacle else None


def warned(reason: str, message: str) -> Warned:
    return Warned("w", "bindery-x", reason, message)


def test_each_obstacle_has_the_code_of_who_can_move_it() -> None:
    unschedulable = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]
    assert code_of(pod(conditions=unschedulable)) == "build_unschedulable"
    assert code_of(pod({"waiting": {"reason": "ImagePullBackOff"}})) == "builder_image_unavailable"
    assert code_of(pod({"waiting": {"reason": "CreateContainerConfigError"}})) == "executor_unavailable"
    mount = warned("FailedMount", 'secret "push" not found')
    assert code_of(pod({"waiting": {"reason": "ContainerCreating"}}), mount) == "executor_unavailable"
    assert code_of(None, warned("FailedCreate", "forbidden: exceeded quota: q")) == "build_quota_exceeded"
    assert code_of(None, warned("FailedCreate", "violates PodSecurity")) == "executor_unavailable"


def test_what_is_over_is_no_obstacle_any_more() -> None:
    mount = warned("FailedMount", "not yet there")
    assert code_of(pod(STARTED), mount) is None
    assert code_of(pod({"waiting": {"reason": "ContainerCreating"}})) is None
    assert code_of(None) is None


def test_an_obstacle_is_told_once_it_lasts_once_and_ends_the_build_past_its_bound() -> None:
    obstacle = Obstacle("build_unschedulable", "No node has room", 60)
    patience = Patience(settle_seconds=0)
    assert patience.meet(obstacle) == Line("waiting", "No node has room. Waiting ...\n")
    assert patience.meet(obstacle) is None
    assert Patience(settle_seconds=5).meet(obstacle) is None
    ended = Patience(settle_seconds=0).meet(Obstacle("build_unschedulable", "No node has room", -1))
    assert isinstance(ended, Finished)
    assert ended.error_code == "build_unschedulable"


def test_an_obstacle_that_comes_again_is_told_again() -> None:
    obstacle, patience = Obstacle("build_unschedulable", "No node has room", 60), Patience(settle_seconds=0)
    assert patience.meet(obstacle)
    assert patience.meet(None) is None
    assert patience.meet(obstacle)
