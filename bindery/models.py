"""The answers of a gateway, as the client returns them."""

from dataclasses import dataclass

FINAL_PHASES = frozenset({"ready", "failed", "cancelled"})


@dataclass(frozen=True)
class Launch:
    """A launch, as it was when it started."""

    launch_id: str
    state: str
    address: str
    """Address of its page."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a launch; `ready`, `failed` and `cancelled` are phases of its last one only."""

    phase: str
    message: str
    url: str = ""
    token: str = ""
    address: str = ""
    """Address for a browser: the running server at the requested path, with the token, which admits anybody."""
    problem: str = ""
    """Why the launch failed, in a sentence or two; empty if it did not."""
    code: str = ""
    cause: str = ""
    """The lines of the build's log that say why it failed, if they are known: `problem` has them too."""

    @property
    def is_final(self) -> bool:
        """Whether it is the last event."""
        return self.phase in FINAL_PHASES


@dataclass(frozen=True)
class Worker:
    """A builder worker: how many builds it can supervise, and how many it supervises now."""

    name: str
    """Empty unless the operator asks."""
    slots: int
    running: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The queue of builds: how many wait and run, since when the first waits, and how many may run."""

    depth: int
    oldest_waiting_seconds: float
    running: int
    capacity: int
    workers: tuple[Worker, ...]
