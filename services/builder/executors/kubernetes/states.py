"""What the API server tells of Jobs, pods and events, reduced to what a build needs to know."""

import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

Json = dict[str, Any]

INSTALLATION = "bindery/installation"
BUILD_ID = "bindery/build-id"
IMAGE_KEY = "bindery/image-key"
RUN = "bindery/run"
EPOCH = "bindery/epoch"
CONTAINER = "builder"


@dataclass(frozen=True)
class JobState:
    """A Job. `failure` is the reason of its failing, known before its pods are gone."""

    name: str
    uid: str
    build_id: str
    epoch: int
    secret: str | None
    has_logins: bool = False
    """Whether its pod expects a `config.json` of Docker's client in its Secret."""
    is_complete: bool = False
    failure: str | None = None
    is_ended: bool = False
    is_gone: bool = False

    @classmethod
    def of(cls, raw: Json) -> Self:
        meta, spec = raw["metadata"], raw["spec"]["template"]["spec"]
        conditions = {
            one["type"]: one.get("reason", "")
            for one in raw.get("status", {}).get("conditions") or []
            if one.get("status") == "True"
        }
        secrets = (one["secret"]["secretName"] for one in spec.get("volumes") or [] if one["name"] == "build")
        mounts = (mount for one in spec.get("containers") or [] for mount in one.get("volumeMounts") or [])
        epoch = (meta.get("annotations") or {}).get(EPOCH, "0")
        return cls(
            name=meta["name"],
            uid=meta["uid"],
            build_id=(meta.get("labels") or {}).get(BUILD_ID, ""),
            epoch=int(epoch) if epoch.isascii() and epoch.isdigit() else 0,
            secret=next(secrets, None),
            has_logins=any(
                one["name"] == "build" and one["mountPath"].endswith("/.docker/config.json") for one in mounts
            ),
            is_complete="Complete" in conditions or "SuccessCriteriaMet" in conditions,
            failure=conditions.get("Failed", conditions.get("FailureTarget")),
            is_ended="Complete" in conditions or "Failed" in conditions,
        )

    @property
    def owner(self) -> str:
        """The name that wakes its followers."""
        return self.name

    def gone(self) -> Self:
        return replace(self, is_gone=True)


@dataclass(frozen=True)
class PodState:
    """A Job's pod. Times are Unix seconds."""

    name: str
    job: str
    job_uid: str
    build_id: str
    phase: str
    created: float
    reason: str = ""
    message: str = ""
    deleting_since: float | None = None
    is_disrupted: bool = False
    unschedulable: str | None = None
    waiting: str = ""
    waiting_message: str = ""
    has_started: bool = False
    is_ready: bool = False
    """A running pod is, until its node does not answer."""
    exit_code: int | None = None
    exit_reason: str = ""
    memory_limit: str | None = None
    is_gone: bool = False

    @classmethod
    def of(cls, raw: Json) -> Self:
        meta, status = raw["metadata"], raw.get("status", {})
        labels = meta.get("labels") or {}
        conditions = {one["type"]: one for one in status.get("conditions") or []}
        scheduled = conditions.get("PodScheduled", {})
        is_stuck = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
        containers = status.get("containerStatuses") or []
        state = next((one.get("state") or {} for one in containers if one["name"] == CONTAINER), {})
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        container = next(one for one in raw["spec"]["containers"] if one["name"] == CONTAINER)
        deleted = meta.get("deletionTimestamp")
        grace = meta.get("deletionGracePeriodSeconds") or 0  # the stamp lies at the end of the grace
        return cls(
            name=meta["name"],
            job=labels.get("batch.kubernetes.io/job-name") or labels.get("job-name", ""),
            job_uid=labels.get("batch.kubernetes.io/controller-uid") or labels.get("controller-uid", ""),
            build_id=labels.get(BUILD_ID, ""),
            phase=status.get("phase", "Pending"),
            created=_seconds(meta["creationTimestamp"]),
            reason=status.get("reason", ""),
            message=status.get("message", ""),
            deleting_since=_seconds(deleted) - grace if deleted else None,
            is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
            unschedulable=scheduled.get("message", "") if is_stuck else None,
            waiting=waiting.get("reason", ""),
            waiting_message=waiting.get("message", ""),
            has_started="running" in state or ended is not None,
            is_ready=conditions.get("Ready", {}).get("status") == "True",
            exit_code=ended["exitCode"] if ended else None,
            exit_reason=ended.get("reason", "") if ended else "",
            memory_limit=(container.get("resources") or {}).get("limits", {}).get("memory"),
        )

    @property
    def owner(self) -> str:
        """The Job, whose name wakes its followers."""
        return self.job

    @property
    def has_ended(self) -> bool:
        """Whether none of its processes can run any more."""
        return self.is_gone or self.phase in {"Succeeded", "Failed"}

    def gone(self) -> Self:
        return replace(self, is_gone=True)


@dataclass(frozen=True)
class WarningEvent:
    """The newest warning about a Job or one of its pods. Nobody takes it back when what it warns of is over.

    `at` is when it came last, in Unix seconds of the reporter's clock; `received_at` is of our own `monotonic`.
    """

    name: str
    object_name: str
    reason: str
    message: str
    at: float = 0.0
    received_at: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, raw: Json) -> Self:
        series, meta = raw.get("series") or {}, raw["metadata"]
        stamps = (
            series.get("lastObservedTime"), raw.get("lastTimestamp"), raw.get("eventTime"), raw.get("firstTimestamp"),
            meta.get("creationTimestamp"),
        )  # fmt: skip
        return cls(
            name=meta["name"],
            object_name=raw["involvedObject"]["name"],
            reason=raw.get("reason", ""),
            message=raw.get("message", ""),
            at=next((_seconds(stamp) for stamp in stamps if stamp), 0.0),
            received_at=time.monotonic(),
        )

    def aged_by_stamp(self) -> Self:
        """The same for one that we were not there to hear: then only its own stamp tells how old it is."""
        return replace(self, received_at=self.received_at - max(0.0, time.time() - self.at))

    @property
    def owner(self) -> str:
        """What it is about: a Job, or a pod named for its Job with a suffix of its own."""
        return self.object_name

    def gone(self) -> Self:
        """The same, once the cluster has forgotten it: that it goes is no news of what it was about."""
        return replace(self, received_at=-math.inf)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).astimezone(UTC).timestamp()
