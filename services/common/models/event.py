"""`Event`: one entry of an event stream, in BinderHub's vocabulary and a few phases of our own."""

from pydantic import ConfigDict

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum, Queue
from services.common.models.problem import Problem


class Phase(OpenEnum):
    """BinderHub's phases, plus `resolving`, `cancelled` and `gap` (lines that are missing from a log)."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    FETCHING = "fetching"
    BUILDING = "building"
    PUSHING = "pushing"
    BUILT = "built"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GAP = "gap"
    UNKNOWN = "unknown"


class TopicRef(Contract):
    """A reference to another event stream, from a position in it (exclusive), which followers of a launch read next."""

    kind: str
    """The value of a `Kind`: `b` a build attempt, `s` a server start."""
    id: str
    after: str = "0"


class Event(Contract):
    """One event. `terminal` ends its topic; `opens` inserts another topic before the next event."""

    model_config = ConfigDict(frozen=True, extra="allow")

    v: int = RECORD_VERSION
    phase: Phase
    message: str = ""
    terminal: bool = False
    opens: TopicRef | None = None
    state: str | None = None
    image_name: str | None = None
    log: str | None = None
    """Path of the build's log, in the event that opens its topic."""
    queue: Queue | None = None
    error: Problem | None = None
