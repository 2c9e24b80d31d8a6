"""What is in the way of a build that should run, and for how long that may be so."""

import time
from dataclasses import dataclass

from services.builder.executors.base import Finished, Line
from services.builder.executors.kubernetes.cluster_cache import JobSnapshot
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import PodState, WarningEvent

QUOTA = "exceeded quota"
IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
PENDING_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
LATELY_SECONDS = 150.0
"""A warning that has not come again for so long is over: what can't be done is tried again at least every 122 s.

Source: kubelet's and attach/detach controller's back-off, k8s.io/kubernetes/pkg/util/goroutinemap/exponentialbackoff.
"""
_REPEAT_SECONDS = 30.0


@dataclass(frozen=True)
class Obstacle:
    """`code` is the error that it becomes after `seconds`; None for one that is only told.

    `received_at` (`monotonic`) is when the warning came last by which it is known; None for one that is plainly there.
    """

    code: str
    what: str
    seconds: float | None
    received_at: float | None = None


def obstacle_of(snapshot: JobSnapshot, settings: KubernetesSettings) -> Obstacle | None:
    """What keeps the build from running, if anything does. Sources: pod conditions, container states, events."""
    pod, warnings = snapshot.pod, {one.reason: one for one in snapshot.warnings}
    if pod is None:
        return _not_made(warnings.get("FailedCreate"), settings)
    if pod.has_started or pod.has_ended:
        is_left_alone = "NodeNotReady" in warnings and not pod.is_ready  # a node that is back makes it ready again
        if is_left_alone and not pod.has_ended and pod.exit_code is None:
            return Obstacle("node", "The build's node does not answer", None)
        return None
    return _not_started(pod, warnings, settings)


def _not_made(failed: WarningEvent | None, settings: KubernetesSettings) -> Obstacle | None:
    if failed is None:
        return None
    if QUOTA in failed.message:
        return quota_obstacle(failed.message, settings)
    what = f"Kubernetes does not admit the build's pod: {failed.message}"
    return Obstacle("executor_unavailable", what, settings.kubernetes_start_seconds)


def quota_obstacle(message: str, settings: KubernetesSettings) -> Obstacle:
    """The obstacle that a refusal by a ResourceQuota is."""
    _, quota, figures = message.partition(QUOTA)
    what = f"There is no room in the builds' namespace: {quota}{figures}"
    return Obstacle("build_quota_exceeded", what, settings.kubernetes_quota_seconds)


def _not_started(pod: PodState, warnings: dict[str, WarningEvent], settings: KubernetesSettings) -> Obstacle | None:
    if pod.unschedulable is not None:
        what = f"No node has room for the build: {pod.unschedulable}"
        return Obstacle("build_unschedulable", what, settings.kubernetes_unschedulable_seconds)
    if pod.waiting in IMAGE_REASONS:
        what = f"The builder image can't be pulled: {pod.waiting_message or pod.waiting}"
        return Obstacle("builder_image_unavailable", what, settings.kubernetes_image_pull_seconds)
    if pod.waiting not in PENDING_REASONS:
        what = f"The build's container can't be started: {pod.waiting}: {pod.waiting_message}"
        return Obstacle("executor_unavailable", what, settings.kubernetes_start_seconds)
    lately = time.monotonic() - LATELY_SECONDS
    for warned in sorted(warnings.values(), key=lambda one: one.received_at, reverse=True):
        if warned.reason != "FailedScheduling" and warned.received_at >= lately:
            what = f"The build's pod can't be started: {warned.reason}: {warned.message}"
            return Obstacle("executor_unavailable", what, settings.kubernetes_start_seconds, warned.received_at)
    return None


class ObstacleTimer:
    """How long the same obstacle has been met, and what of it has been said."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._code = ""
        self._since = 0.0
        self._said, self._said_at = "", 0.0

    @property
    def has_obstacle(self) -> bool:
        """Whether there was one when it was last looked for."""
        return bool(self._code)

    def observe(self, obstacle: Obstacle | None) -> Line | Finished | None:
        """What is to be said of it now, if anything; or the end, when it was met for too long."""
        now = time.monotonic()
        if obstacle is None:
            self._code = ""
            return None
        if obstacle.code != self._code:
            self._code, self._since, self._said = obstacle.code, now, ""
        met_seconds = now - self._since
        if obstacle.seconds is not None and met_seconds > obstacle.seconds and self._is_still_there(obstacle):
            return Finished(False, obstacle.code, f"{_sentence(obstacle.what)} It was so for {met_seconds:.0f} s.")
        is_new = obstacle.what != self._said and (not self._said or now - self._said_at > _REPEAT_SECONDS)
        if met_seconds >= self._settle_seconds and is_new:
            self._said, self._said_at = obstacle.what, now
            return Line("waiting", f"{_sentence(obstacle.what)} Waiting ...\n")
        return None

    def _is_still_there(self, obstacle: Obstacle) -> bool:
        """Whether a warning came again in the second half of its time.

        One of the beginning, as of a Secret that came after its Job, may be over: the kubelet says nothing more, and
        pulls an image for minutes. What lasts is warned of again at intervals that double, so it is heard there.
        """
        since = self._since + (obstacle.seconds or 0.0) / 2
        return obstacle.received_at is None or obstacle.received_at >= since


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
