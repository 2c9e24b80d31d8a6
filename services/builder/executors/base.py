"""The contract of an executor: four calls, each idempotent by the attempt's name."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Attempt:
    """One attempt at one image. `epoch` is the claim under which it is run: it only grows.

    `run` counts its executions from 1: one that vanished, or could not push, is followed by another. `content_provider`
    is the only one of repo2docker's content providers that may fetch the repository. `labels` go on the image.
    """

    build_id: str
    image: str
    repo_url: str
    ref: str
    epoch: int
    run: int = 1
    content_provider: str = "Git"
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def image_key(self) -> str:
        """What all attempts at the image have in common: the build id without its number."""
        return self.build_id.rpartition("-")[0]

    @property
    def name(self) -> str:
        """What its execution is called, by our prefix: `<build id>`, and from the second run on `<build id>-r<run>`."""
        return self.build_id if self.run == 1 else f"{self.build_id}-r{self.run}"


@dataclass(frozen=True)
class Line:
    """A line of a build's log; `message` ends in `\\n`.

    `phase` is the engine's own (`fetching`, `building`, `pushing`, `failed`), `waiting` for what is in the way of the
    execution (no log line), or `gap` for a sentence about lines that can't be told any more.
    """

    phase: str
    message: str


@dataclass(frozen=True)
class Batch:
    """Lines, perhaps none, and the position after the last of them, to be stored in the same write.

    One without lines, repeated, says that the execution can't say anything yet: what runs it has no room, or fetches
    an image. So its silence is not taken for a standstill.
    """

    lines: tuple[Line, ...]
    position: str


@dataclass(frozen=True)
class Finished:
    """The end of an execution. `error_code` is from the closed list; the message is for whoever reads the log.

    With `registry_unavailable` the execution could not push: once the registry answers, another run is asked for.
    """

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
    """The execution is gone without having said how it ended: whoever wants the image must ask for another run."""


class ExecutorUnavailableError(Exception):
    """What runs the builds (API server, engine) does not answer: the same call may be made again later."""


class Executor(Protocol):
    """Runs builds somewhere that outlives the worker. Every call may raise `ExecutorUnavailableError`."""

    async def ensure(self, attempt: Attempt) -> None:
        """See to it that the attempt's run runs or has ended: it is started once, however often this is called."""

    def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield what comes after `position` (`""`: from the beginning) as it comes, and `Finished` last.

        Raises `ExecutionVanishedError`.
        """

    async def stop(self, attempt: Attempt) -> None:
        """End the attempt with all its runs and processes and remove what it half built; fine if it has ended."""

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return all executions that the executor knows of, or those of one image, ended ones until they are removed.

        Those of one attempt are told as one, which lives while one of them does.
        """

    async def remove(self, build_id: str) -> None:
        """Forget an attempt's executions, ended and with a stored log; fine if nothing is known of them."""

    async def aclose(self) -> None:
        """Let go of connections; executions go on."""

    async def trouble(self) -> str | None:
        """For health: a sentence about what is wrong with what runs the builds, or None."""
