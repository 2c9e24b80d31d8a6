"""Jobs, pods and warning events of the API server, reduced to the facts that matter to a build."""

import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from services.common.net.http import only_dict

Json = dict[str, Any]
"""An object of the API server, or another JSON object of its protocol."""

INSTALLATION = "bindery/installation"
BUILD_ID = "bindery/build-id"
IMAGE_KEY = "bindery/image-key"
RUN = "bindery/run"
EPOCH = "bindery/epoch"
CONTAINER = "builder"
BUILD_VOLUME = "build"
"""The volume of a Job's own Secret."""
DOCKER_CONFIG_PATH = ".docker/config.json"
"""The file that Docker's client reads its configuration from, below the home folder."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A Job. `failure` is the reason of its failure, which is known before its pods are gone."""

    name: str
    uid: str
    build_id: str
    epoch: int
    secret: str | None
    version: str = field(default="", compare=False)
    """Its resource version, which a change of it may require."""
    has_docker_config: bool = False
    """Whether its pod expects a `config.json` of Docker's client in its Secret."""
    is_complete: bool = False
    failure: str | None = None
    is_ended: bool = False
    is_deleted: bool = False

    @classmethod
    def parse(cls, raw: Json) -> Self:
        """Return the state of a Job as the API server describes it. Raise an exception for another shape."""
        metadata = raw["metadata"]
        pod = raw["spec"]["template"]["spec"]
        epoch = (metadata.get("annotations") or {}).get(EPOCH, "0")

        conditions = {
            condition["type"]: condition.get("reason", "")
            for condition in (raw.get("status") or {}).get("conditions") or []
            if condition.get("status") == "True"
        }
        secrets = (
            volume["secret"]["secretName"] for volume in pod.get("volumes") or [] if volume["name"] == BUILD_VOLUME
        )
        mounts = (mount for container in pod.get("containers") or [] for mount in container.get("volumeMounts") or [])

        return cls(
            name=str(metadata["name"]),
            uid=str(metadata["uid"]),
            version=str(metadata.get("resourceVersion") or ""),
            build_id=_text((metadata.get("labels") or {}).get(BUILD_ID)),
            epoch=int(epoch) if epoch.isascii() and epoch.isdigit() else 0,
            secret=next(secrets, None),
            has_docker_config=any(
                mount["name"] == BUILD_VOLUME and mount["mountPath"].endswith(f"/{DOCKER_CONFIG_PATH}")
                for mount in mounts
            ),
            is_complete="Complete" in conditions or "SuccessCriteriaMet" in conditions,
            failure=conditions.get("Failed", conditions.get("FailureTarget")),
            is_ended="Complete" in conditions or "Failed" in conditions,
        )

    @property
    def owner(self) -> str:
        """The name that its followers subscribe to."""
        return self.name

    def as_deleted(self) -> Self:
        """Return the same Job, marked as deleted."""
        return replace(self, is_deleted=True)


@dataclass(frozen=True, kw_only=True)
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
    """True for a running pod, until its node stops answering."""
    exit_code: int | None = None
    exit_reason: str = ""
    memory_limit: str | None = None
    is_deleted: bool = False

    @classmethod
    def parse(cls, raw: Json) -> Self:
        """Return the state of a pod as the API server describes it.

        Raise `ValueError` for one without our container, which is nobody's build, and other exceptions for an object
        that is not of a pod's shape.
        """
        metadata = raw["metadata"]
        labels = metadata.get("labels") or {}
        deleted = metadata.get("deletionTimestamp")
        grace_seconds = metadata.get("deletionGracePeriodSeconds") or 0  # the timestamp is at the end of this period

        status = raw.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
        scheduled = conditions.get("PodScheduled", {})
        is_stuck = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"

        statuses = status.get("containerStatuses") or []
        state = next((item.get("state") or {} for item in statuses if item["name"] == CONTAINER), {})
        waiting = state.get("waiting") or {}
        terminated = state.get("terminated")
        container = next((spec for spec in raw["spec"]["containers"] if spec["name"] == CONTAINER), None)
        if container is None:
            raise ValueError(f"it has no container {CONTAINER}")

        return cls(
            name=str(metadata["name"]),
            job=_text(labels.get("batch.kubernetes.io/job-name") or labels.get("job-name")),
            job_uid=controller_uid(raw),
            build_id=_text(labels.get(BUILD_ID)),
            phase=_text(status.get("phase") or "Pending"),
            created=_unix_time(metadata["creationTimestamp"]),
            reason=_text(status.get("reason")),
            message=_text(status.get("message")),
            deleting_since=_unix_time(deleted) - grace_seconds if deleted else None,
            is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
            unschedulable=_text(scheduled.get("message")) if is_stuck else None,
            waiting=_text(waiting.get("reason")),
            waiting_message=_text(waiting.get("message")),
            has_started="running" in state or terminated is not None,
            is_ready=conditions.get("Ready", {}).get("status") == "True",
            exit_code=int(terminated["exitCode"]) if terminated else None,
            exit_reason=_text(terminated.get("reason")) if terminated else "",
            memory_limit=((container.get("resources") or {}).get("limits") or {}).get("memory"),
        )

    @property
    def owner(self) -> str:
        """Its Job, which its followers subscribe to."""
        return self.job

    @property
    def has_ended(self) -> bool:
        """Whether none of its processes can run any more."""
        return self.is_deleted or self.phase in {"Succeeded", "Failed"}

    @property
    def is_being_removed(self) -> bool:
        """Whether it is deleted, is being deleted, or is pushed off its node."""
        return self.is_deleted or self.deleting_since is not None or self.is_disrupted

    def as_deleted(self) -> Self:
        """Return the same pod, marked as deleted."""
        return replace(self, is_deleted=True)


@dataclass(frozen=True, kw_only=True)
class WarningEvent:
    """The newest warning about a Job or one of its pods. Nothing withdraws it when its cause is over."""

    name: str
    object_name: str
    reason: str
    message: str
    reported_at: float = 0.0
    """When it was repeated last, in Unix seconds of the reporter's clock."""
    received_at: float = field(default=0.0, compare=False)
    """When it arrived here, in seconds of this process's monotonic clock."""

    @classmethod
    def parse(cls, raw: Json) -> Self:
        """Return a warning as the API server describes it, received now. Raise an exception for another shape."""
        metadata = raw["metadata"]
        stamps = (
            (raw.get("series") or {}).get("lastObservedTime"),
            raw.get("lastTimestamp"),
            raw.get("eventTime"),
            raw.get("firstTimestamp"),
            metadata.get("creationTimestamp"),
        )
        return cls(
            name=str(metadata["name"]),
            object_name=str(raw["involvedObject"]["name"]),
            reason=_text(raw.get("reason")),
            message=_text(raw.get("message")),
            reported_at=next((_unix_time(stamp) for stamp in stamps if stamp), 0.0),
            received_at=time.monotonic(),
        )

    def aged_by_stamp(self) -> Self:
        """Return the same warning, as old as its own timestamp says: for one that is older than our watch."""
        age_seconds = max(0.0, time.time() - self.reported_at)  # noqa: TID251 - a cluster's stamp
        return replace(self, received_at=self.received_at - age_seconds)

    @property
    def owner(self) -> str:
        """The object it is about: a Job, or a pod, whose name is its Job's with a suffix."""
        return self.object_name

    def as_deleted(self) -> Self:
        """Return the same warning, too old to matter: that the cluster forgets it is no news of its object."""
        return replace(self, received_at=-math.inf)


def controller_uid(raw: Json) -> str:
    """Return the uid of the Job that has made a pod; empty for another pod, of whatever shape it is."""
    labels = only_dict(only_dict(raw.get("metadata")).get("labels"))
    return _text(labels.get("batch.kubernetes.io/controller-uid") or labels.get("controller-uid"))


def _text(value: object) -> str:
    return str(value) if value is not None else ""


def _unix_time(stamp: str) -> float:
    return datetime.fromisoformat(stamp).astimezone(UTC).timestamp()
