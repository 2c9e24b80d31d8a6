"""The plan of a build: what is installed, in what order, and the scripts around it."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

REQUIREMENTS_FILE = "requirements.txt"
CONSTRAINTS_FILE = "constraints.txt"


class Buildpack(StrEnum):
    """The part of repo2docker that builds a repository, named by what it reads."""

    DOCKERFILE = "a Dockerfile"
    JULIA = "a Julia project"
    JULIA_REQUIRE = "Julia packages"
    NIX = "a Nix environment"
    R = "R packages"
    CONDA = "a conda environment"
    PIPFILE = "a Pipfile"
    PYTHON = "Python packages"


@dataclass(frozen=True, kw_only=True)
class PipInstall:
    """One `uv pip install` of what a file of the repository asks for.

    `source` is the file's name in the repository, for the log. `requirements` and `constraints` are lines in uv's
    form of a requirements file; each path in them is absolute, so that the working directory does not matter.
    `arguments` are options of uv that can't stand in such a file.

    `replaces_indexes`: the file chose its package indexes, so those of the operator do not count.
    """

    source: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    replaces_indexes: bool = False

    def write(self, folder: Path) -> list[str]:
        """Write the files into `folder`, which is made, and return the arguments of `uv pip install`.

        The folder must lie outside of the repository, and no other install may use it. Raise `OSError`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # `[tool.uv]` of the repository never counts: pip reads nothing of it.
        arguments = ["--no-sources", *self.arguments, "--requirements", str(folder / REQUIREMENTS_FILE)]
        (folder / REQUIREMENTS_FILE).write_text(_lines(self.requirements), encoding="utf-8")
        if self.constraints:
            (folder / CONSTRAINTS_FILE).write_text(_lines(self.constraints), encoding="utf-8")
            arguments += ["--constraints", str(folder / CONSTRAINTS_FILE)]
        return arguments


@dataclass(frozen=True, kw_only=True)
class CondaEnvironment:
    """An environment.yml, read but not solved.

    `file` is its name in the repository. `channels` are in the file's order, without `nodefaults`, which makes
    `adds_default_channels` false: then the channels of the operator's configuration do not count. `dependencies` are
    conda's match specifications, as the author wrote them. `python` is the version that the file pins, as `3.11`;
    None if it pins none. `variables` are to be set in the environment. `pip` is installed after the rest.
    """

    file: str
    name: str | None = None
    channels: tuple[str, ...] = ()
    adds_default_channels: bool = True
    dependencies: tuple[str, ...] = ()
    python: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    pip: PipInstall | None = None

    @property
    def uses_r(self) -> bool:
        """Whether a package of R is asked for, which makes repo2docker add R's kernel."""
        return any(dependency.startswith("r-") for dependency in self.dependencies)


@dataclass(frozen=True)
class Script:
    """A postBuild or start: `path` is absolute; `is_program` tells that the system can run it as it is."""

    path: Path
    is_program: bool = True

    @property
    def command(self) -> list[str]:
        """The command that runs it. Without a first line like #!/bin/bash sh does, as if a shell had called it."""
        return [str(self.path)] if self.is_program else ["/bin/sh", str(self.path)]

    def make_executable(self) -> None:
        """Set the bits that git may have left out. Raise `OSError`."""
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """The build plan.

    `file` is the name of the file that chose the buildpack; None if the repository names no environment at all.
    `python` is a version or version specifiers (PEP 440); None if the repository names none. `installs` run one after
    another, after Jupyter's own packages. `notes` are lines for the log: what is passed over, and why.
    """

    buildpack: Buildpack = Buildpack.PYTHON
    file: str | None = None
    python: str | None = None
    installs: tuple[PipInstall, ...] = ()
    conda: CondaEnvironment | None = None
    post_build: Script | None = None
    start: Script | None = None
    notes: tuple[str, ...] = ()


def _lines(lines: tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in lines)
