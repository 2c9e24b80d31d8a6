"""The contract of an executor: five calls, each idempotent by the attempt's name."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.net.credential import ScopedCredential


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at one image."""

    build_id: str
    image: str
    repo_url: str
    ref: str
    epoch: int
    """The claim under which it is run. It only grows."""
    run: int = 1
    """The number of its execution: one that vanished, or could not push, is followed by another."""
    content_provider: str = "Git"
    """The only one of repo2docker's content providers that may fetch the repository."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels of the image, as names and values."""
    credential: ScopedCredential | None = None
    """What a private repository is fetched with: it stands in no command line, and no file outlives its use."""

    @property
    def image_key(self) -> str:
        """The part that all attempts at the image share: the build id without its number."""
        return self.build_id.rpartition("-")[0]

    @property
    def name(self) -> str:
        """Name of its execution, without our prefix: `<build id>`, from the second run on `<build id>-r<run>`."""
        return self.build_id if self.run == 1 else f"{self.build_id}-r{self.run}"


@dataclass(frozen=True)
class Line:
    """A line of a build's log; `message` ends in a line feed.

    `phase` is the engine's own (`fetching`, `building`, `pushing`, `failed`), `waiting` for the reason why the
    execution can't start (not part of the log), or `gap` for a sentence about lines that are lost.
    """

    phase: str
    message: str


@dataclass(frozen=True)
class Batch:
    """Lines, perhaps none, and the position after the last of them, to be stored in the same write.

    A batch without lines, repeated, says that the execution can't print anything yet: its platform has no room for it,
    or pulls an image. So its silence is not mistaken for a stall.
    """

    lines: tuple[Line, ...]
    position: str


@dataclass(frozen=True)
class Finished:
    """The end of an execution. `error_code` is from the closed list; the message is for readers of the log.

    With `registry_unavailable` the execution could not push: once the registry answers, another run follows.
    """

    ok: bool
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Execution:
    """An execution that the executor has a record of. `epoch` is the highest claim that asked for it."""

    build_id: str
    epoch: int
    is_alive: bool


class ExecutionVanishedError(Exception):
    """The execution disappeared without a result: another run is needed to get the image."""


class ExecutorUnavailableError(Exception):
    """The platform that runs the builds (API server, engine) does not answer: the same call may be retried later."""


class Executor(Protocol):
    """A platform for builds that outlives the worker. Every call may raise `ExecutorUnavailableError`."""

    async def prepare(self) -> None:
        """Get ready, so that the first build does not wait: a worker calls this once, and the builder's API never."""

    async def ensure(self, attempt: Attempt) -> None:
        """Start the attempt's run unless it runs or has ended: it is started once, however often this is called."""

    def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the output after `position` (`""`: from the beginning) as it arrives, and `Finished` last.

        Raise `ExecutionVanishedError`.
        """

    async def stop(self, attempt: Attempt) -> None:
        """Stop all runs and processes of the attempt and remove its unfinished image; do nothing if it has ended."""

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return all executions, or those of one image; ended ones are listed until they are removed.

        The runs of one attempt are listed as one execution, which is alive while one of them is.
        """

    async def remove(self, build_id: str) -> None:
        """Remove an attempt's ended executions, whose log is stored; do nothing if there are none."""

    async def aclose(self) -> None:
        """Close connections; executions go on."""

    async def health_problem(self) -> str | None:
        """Return a sentence for health that names the platform's problem, or None."""
