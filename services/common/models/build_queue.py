"""`BuildQueue`: the numbers of running and waiting builds."""

from services.common.models.base import Contract


class WorkerSlots(Contract):
    """The slots of one live worker: how many builds it can supervise, and how many it does."""

    name: str | None = None
    slots: int
    running: int


class BuildQueue(Contract):
    """The state of the build queue.

    `depth` builds wait for a slot, the first of them for `oldest_waiting_seconds` (null if none waits); `running`
    builds have one; `capacity` is the limit.
    """

    depth: int
    oldest_waiting_seconds: float | None = None
    running: int
    capacity: int
    workers: list[WorkerSlots]
