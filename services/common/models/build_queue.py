"""`BuildQueue`: how much is built, and how much waits."""

from services.common.models.base import Contract


class WorkerSlots(Contract):
    """One living worker: how many builds it can supervise, and does. `name` is for the operator."""

    name: str | None = None
    slots: int
    running: int


class BuildQueue(Contract):
    """How the queue of builds stands.

    `depth` builds wait for a slot, the first of them for `oldest_waiting_seconds` (null: none waits); `running` have
    one; `capacity` is how many may.
    """

    depth: int
    oldest_waiting_seconds: float | None = None
    running: int
    capacity: int
    workers: list[WorkerSlots]
