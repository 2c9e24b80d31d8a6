"""The contract of an executor: four calls, each idempotent by the attempt's name."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Attempt:
    """One attempt at one image. `epoch` is the claim under which it is run: it only grows."""

    build_id: str
    image: str
    repo_url: str
    ref: str
    epoch: int


@dataclass(frozen=True)
class Line:
    """A line of a build's log. `phase` is `fetching`, `building`, `pushing` or `failed`; `message` ends in `\\n`."""

    phase: str
    message: str


@dataclass(frozen=True)
class Batch:
    """Lines, and the position after the last of them, to be stored in the same write."""

    lines: tuple[Line, ...]
    position: str


@dataclass(frozen=True)
class Finished:
    """The end of an execution. `error_code` is from the closed list; the message is for whoever reads the log."""

    ok: bool
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Execution:
    """An execution that the executor knows of, `epoch` being the highest claim that asked for it."""

    build_id: str
    epoch: int
    is_alive: bool


class ExecutionVanishedError(Exception):
    """The execution is gone without having said how it ended: whoever wants the image must ask for a new attempt."""


class Executor(Protocol):
    """Runs builds somewhere that outlives the worker."""

    async def ensure(self, attempt: Attempt) -> None:
        """See to it that the attempt runs or has ended: it is started once, however often this is called."""

    def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield what comes after `position` (`""`: from the beginning) as it comes, and `Finished` last.

        Raises `ExecutionVanishedError`.
        """

    async def stop(self, attempt: Attempt) -> None:
        """End the attempt with all its processes and remove what it half built; fine if it has ended."""

    async def list(self) -> Sequence[Execution]:
        """Return all executions that the executor knows of, ended ones included until they are removed."""

    async def remove(self, build_id: str) -> None:
        """Forget an execution that has ended and whose log is stored; fine if nothing is known of it."""
