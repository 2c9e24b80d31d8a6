"""Obstacles: reasons why a build does not run, and how long each of them may last."""

import time
from dataclasses import KW_ONLY, dataclass

from services.builder.executors.base import Finished, Line
from services.builder.executors.kubernetes.cluster_cache import JobSnapshot
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import PodState, WarningEvent

QUOTA = "exceeded quota"
IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
PENDING_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
RECENT_SECONDS = 150.0
"""A warning that was not repeated for this long is over: a step that fails is tried again at least every 122 s.

Source: kubelet's and attach/detach controller's back-off, k8s.io/kubernetes/pkg/util/goroutinemap/exponentialbackoff.
"""
_REPEAT_SECONDS = 30.0


@dataclass(frozen=True)
class Obstacle:
    """A reason why a build does not run. It becomes the error `code` after `seconds`, or never if they are None."""

    code: str
    sentence: str
    seconds: float | None
    _: KW_ONLY
    warned_at: float | None = None
    """When its warning arrived last (`monotonic`); None for an obstacle that the pod or the API server itself shows."""


def obstacle_of(snapshot: JobSnapshot, settings: KubernetesSettings) -> Obstacle | None:
    """Return the obstacle that a snapshot shows, or None. Sources: pod conditions, container states, events."""
    pod = snapshot.pod
    warnings = {warning.reason: warning for warning in snapshot.warnings}
    if pod is None:
        return _pod_not_created(warnings.get("FailedCreate"), settings)
    if not pod.has_started and not pod.has_ended:
        return _container_not_started(pod, warnings, settings)

    is_alone = "NodeNotReady" in warnings and not pod.is_ready  # its node, once it is back, makes the pod ready again
    if is_alone and not pod.has_ended and pod.exit_code is None:
        return Obstacle("node", "The build's node does not answer", None)
    return None


def quota_obstacle(message: str, settings: KubernetesSettings) -> Obstacle:
    """Return the obstacle for a refusal by a ResourceQuota."""
    _, quota, figures = message.partition(QUOTA)
    sentence = f"There is no room in the builds' namespace: {quota}{figures}"
    return Obstacle("build_quota_exceeded", sentence, settings.kubernetes_quota_seconds)


def _pod_not_created(warning: WarningEvent | None, settings: KubernetesSettings) -> Obstacle | None:
    if warning is None:
        return None
    if QUOTA in warning.message:
        return quota_obstacle(warning.message, settings)
    sentence = f"Kubernetes does not admit the build's pod: {warning.message}"
    return Obstacle("executor_unavailable", sentence, settings.kubernetes_start_seconds)


def _container_not_started(
    pod: PodState, warnings: dict[str, WarningEvent], settings: KubernetesSettings
) -> Obstacle | None:
    if pod.unschedulable is not None:
        sentence = f"No node has room for the build: {pod.unschedulable}"
        return Obstacle("build_unschedulable", sentence, settings.kubernetes_unschedulable_seconds)
    if pod.waiting in IMAGE_REASONS:
        sentence = f"The builder image can't be pulled: {pod.waiting_message or pod.waiting}"
        return Obstacle("builder_image_unavailable", sentence, settings.kubernetes_image_pull_seconds)
    if pod.waiting not in PENDING_REASONS:
        sentence = f"The build's container can't be started: {pod.waiting}: {pod.waiting_message}"
        return Obstacle("executor_unavailable", sentence, settings.kubernetes_start_seconds)

    # The pod itself shows nothing wrong: the newest recent warning says why it waits.
    recent = time.monotonic() - RECENT_SECONDS
    for warning in sorted(warnings.values(), key=lambda warning: warning.received_at, reverse=True):
        if warning.reason != "FailedScheduling" and warning.received_at >= recent:
            sentence = f"The build's pod can't be started: {warning.reason}: {warning.message}"
            seconds = settings.kubernetes_start_seconds
            return Obstacle("executor_unavailable", sentence, seconds, warned_at=warning.received_at)
    return None


class ObstacleTimer:
    """Measures how long the same obstacle lasts, and remembers the last sentence that the log got about it."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._code = ""
        self._since = 0.0
        self._logged_sentence = ""
        self._logged_at = 0.0

    @property
    def has_obstacle(self) -> bool:
        """Whether there was an obstacle at the last observation."""
        return bool(self._code)

    def observe(self, obstacle: Obstacle | None) -> Line | Finished | None:
        """Return a line for the log if there is something new to say, or the end if the obstacle lasted too long."""
        now = time.monotonic()
        if obstacle is None:
            self._code = ""
            return None
        if obstacle.code != self._code:
            self._code = obstacle.code
            self._since = now
            self._logged_sentence = ""

        lasts_seconds = now - self._since
        if obstacle.seconds is not None and lasts_seconds > obstacle.seconds and self._still_exists(obstacle):
            sentence = f"{_with_full_stop(obstacle.sentence)} It was so for {lasts_seconds:.0f} s."
            return Finished(False, obstacle.code, sentence)

        may_repeat = not self._logged_sentence or now - self._logged_at > _REPEAT_SECONDS
        is_new = obstacle.sentence != self._logged_sentence and may_repeat
        if lasts_seconds >= self._settle_seconds and is_new:
            self._logged_sentence = obstacle.sentence
            self._logged_at = now
            return Line("waiting", f"{_with_full_stop(obstacle.sentence)} Waiting ...\n")
        return None

    def _still_exists(self, obstacle: Obstacle) -> bool:
        """Whether its warning was repeated in the second half of its time.

        A warning of the beginning, as of a Secret that was created after its Job, may be over: the kubelet says nothing
        more, and pulls an image for minutes. A cause that lasts is warned about again at intervals that double, so one
        of these warnings arrives in the second half.
        """
        second_half = self._since + (obstacle.seconds or 0.0) / 2
        return obstacle.warned_at is None or obstacle.warned_at >= second_half


def _with_full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
