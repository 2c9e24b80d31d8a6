"""The cases of `tests/repositories`: what each folder says about how it is launched and what must come of it."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tests.support.paths import TESTS

CASES = TESTS / "repositories"
NOT_COMMITTED = frozenset({"verify", "verify.cell", "error", "error.docker", "case.toml"})

Executor = Literal["process", "docker"]


class Options(BaseModel):
    """`case.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executors: tuple[Executor, ...] = ("process",)
    """Those that the case is launched with."""
    is_quick: bool = False
    """Whether `make test` launches it; `make test-long` launches all."""
    in_copies: bool = False
    """Whether `make test-long` launches it by a Bindery without overlays, too, where each server gets copies."""
    in_terminal: bool = False
    """Whether `verify` runs in a terminal, too."""
    servers: int = 1
    """How many run at once. The last one starts when the others have been verified."""
    is_built_again: bool = False
    """Whether another commit with the same files is built and verified at last."""
    log: tuple[str, ...] = ()
    """Words that the log of the process executor's build must have."""
    wheels: tuple[str, ...] = ()
    """Wheels with one module, `name==version`, which lie in the repository's folder `wheels`."""
    index: tuple[str, ...] = ()
    """The same, which lie in the index at `@INDEX@`."""
    ref: str = "HEAD"
    """What is launched."""
    branch: str = "main"
    object_format: Literal["sha1", "sha256"] = "sha1"
    history: tuple[str, ...] = ()
    """Commits before the last one; each is tagged by that name, unless it is empty."""
    submodules: tuple[str, ...] = ()
    """Folders that become repositories of their own, `@GIT@/<case>.<folder>`, each with a link in this one."""
    repositories: tuple[str, ...] = ()
    """The same without a link."""
    lfs: tuple[str, ...] = ()
    """Files of which git has a pointer of Git LFS alone."""


@dataclass(frozen=True)
class Problem:
    """How a launch must fail: with this code, and these words in the error's text."""

    code: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def options(self) -> Options:
        """What `case.toml` says. Raise `ValidationError` for a field that there is not."""
        file = self.folder / "case.toml"
        return Options.model_validate(tomllib.loads(file.read_text()) if file.exists() else {})

    def problem(self, executor: Executor) -> Problem | None:
        """Return how a launch with this executor must fail; None if it must not."""
        file = self.folder / ("error" if executor == "process" else f"error.{executor}")
        if not file.exists():
            return None
        code, *words = file.read_text().splitlines()
        return Problem(code, tuple(words))

    def mentions(self, variable: str) -> bool:
        """Return whether `@NAME@` stands in one of its texts."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return any(f"@{variable}@".encode() in path.read_bytes() for path in files)

    @property
    def programs(self) -> dict[str, bytes]:
        """The contents of `verify` and `verify.cell`, as far as there are any."""
        files = (self.folder / name for name in ("verify", "verify.cell"))
        return {file.name: file.read_bytes() for file in files if file.exists()}


def all_cases() -> list[Case]:
    """Return every case, in the order of their names."""
    return [Case(folder) for folder in sorted(CASES.iterdir()) if folder.is_dir() and not folder.name.startswith("_")]
