"""What the process that installs an environment is given, and what it leaves: two small JSON files."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict


class CondaJob(BaseModel):
    """An environment to install at `prefix`.

    `channels` are addresses, the first of them the most important. `dependencies` are match specifications, whose
    channels are addresses as well. `default_python` (as `3.12`) is preferred if `dependencies` leave the choice.
    `base` is added if the channels have all of it. `cache` is shared by all builds.

    Sizes are in bytes, as they are packed; `cache_max_bytes` is unpacked.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    channels: tuple[str, ...]
    dependencies: tuple[str, ...]
    default_python: str | None
    base: tuple[str, ...]
    prefix: Path
    cache: Path
    outcome: Path
    is_offline: bool
    index_timeout_seconds: float
    solve_timeout_seconds: float
    download_max_bytes: int
    cache_max_bytes: int


class CondaOutcome(BaseModel):
    """How it ended. `code` and `message` are those of a `StepError`, or None if the environment is there.

    `has_base`: whether the job's `base` is part of it.
    """

    model_config = ConfigDict(frozen=True)

    has_base: bool = False
    code: str | None = None
    message: str = ""

    @classmethod
    def failed(cls, message: str, code: str = "build_failed") -> Self:
        """Return the outcome of a job that failed."""
        return cls(code=code, message=message)
