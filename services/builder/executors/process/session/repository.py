"""The build plan from a repository's files, by repo2docker's rules, or the reason why it can't be built here."""

import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from services.builder.executors.process.session.errors import StepError, build_failed

_UNSUPPORTED_FILES = {
    "Dockerfile": "a Dockerfile",
    "environment.yml": "a conda environment",
    "environment.yaml": "a conda environment",
    "apt.txt": "packages of the operating system",
    "install.R": "R packages",
    "REQUIRE": "Julia packages",
    "Project.toml": "a Julia project",
    "JuliaProject.toml": "a Julia project",
    "default.nix": "a Nix environment",
    "Pipfile": "a Pipfile",
    "Pipfile.lock": "a Pipfile",
}
_FILES_READ = ("runtime.txt", "pyproject.toml", "requirements.txt", "setup.py", "postBuild", "start")
_RUNTIME = re.compile(r"python-3\.([0-9]{1,3})(\.[0-9]{1,3})?")
_MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """The build plan. `python` is a version or version specifiers (PEP 440); None if the repository names none.

    `packages` are arguments of the installer, with paths relative to the repository. They are names of files that
    Bindery looks for, never text of the repository: `python` is the only text of an author on a command line.
    """

    python: str | None
    packages: tuple[str, ...]
    post_build: Path | None
    start: Path | None


def read(repo: Path) -> BuildPlan:
    """Read a checkout. Raise `StepError`: `unsupported_repository` or `build_failed`, naming the file."""
    folder = _configuration_folder(repo)
    _refuse_unsupported_files(folder, is_top=folder == repo)
    _refuse_outside_links(repo, folder)

    project = _project(folder / "pyproject.toml")
    packages: list[str] = []
    if (requirements := folder / "requirements.txt").is_file():
        packages += ["--requirement", str(requirements.relative_to(repo))]
    packages += _package_arguments(repo, folder, project)

    return BuildPlan(
        python=_runtime(folder / "runtime.txt") or project.requires_python,
        packages=tuple(packages),
        post_build=_script(folder / "postBuild"),
        start=_script(folder / "start"),
    )


@dataclass(frozen=True)
class _Project:
    """The part of a pyproject.toml that counts here."""

    has_dependencies: bool = False
    is_package: bool = False
    requires_python: str | None = None


def _configuration_folder(repo: Path) -> Path:
    folders = [repo / name for name in ("binder", ".binder") if (repo / name).is_dir()]
    if len(folders) > 1:
        raise build_failed("The repository has both binder/ and .binder/: only one of them can count, remove the other")
    return folders[0] if folders else repo


def _refuse_unsupported_files(folder: Path, *, is_top: bool) -> None:
    features = dict(_UNSUPPORTED_FILES)
    if is_top:  # repo2docker reads R's DESCRIPTION only if there is no binder folder
        features["DESCRIPTION"] = "an R package"
    for name, feature in features.items():
        if (folder / name).is_file():
            raise _unsupported(name if is_top else f"{folder.name}/{name}", feature)


def _refuse_outside_links(repo: Path, folder: Path) -> None:
    # Otherwise files of this machine could be quoted in the log, or made executable.
    for path in (folder / name for name in _FILES_READ):
        if path.is_file() and not path.resolve().is_relative_to(repo.resolve()):
            name = path.relative_to(repo)
            raise build_failed(f"{name} is a link that leads out of the repository: put the file itself there")


def _unsupported(file: str, feature: str) -> StepError:
    return StepError(
        "unsupported_repository",
        f"{file}: the process executor can't build {feature}. "
        "The kubernetes and docker executors can: they build with repo2docker",
    )


def _runtime(path: Path) -> str | None:
    if not path.is_file():
        return None

    runtime = _text(path).strip()
    if not runtime:
        return None
    if runtime.startswith("r-"):
        raise _unsupported("runtime.txt", f"R ({runtime[:100]!r})")

    match = _RUNTIME.fullmatch(runtime)
    if not match:
        raise build_failed(f"runtime.txt says {runtime[:100]!r}; it must name a Python like python-3.12")
    return f"3.{match[1]}{match[2] or ''}"


def _project(path: Path) -> _Project:
    if not path.is_file():
        return _Project()

    try:
        content = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise build_failed(f"pyproject.toml is not valid TOML: {error}") from None

    project = content.get("project")
    table = project if isinstance(project, dict) else {}
    return _Project(
        has_dependencies=bool(table.get("dependencies")),
        is_package="build-system" in content,
        requires_python=_specifiers(table["requires-python"]) if "requires-python" in table else None,
    )


def _specifiers(requires_python: object) -> str | None:
    """Return `requires-python` in the normal form of PEP 440; None if it is empty.

    Raise `StepError` for anything else: uv would take a word for an option, a path or the name of a program. `===`
    compares any text, so it does not name a version of Python.
    """
    try:
        specifiers = SpecifierSet(requires_python) if isinstance(requires_python, str) else None
    except InvalidSpecifier:
        specifiers = None

    if specifiers is None or any(specifier.operator == "===" for specifier in specifiers):
        shown = repr(requires_python)
        if len(shown) > 100:
            shown = f"{shown[:100]}…"
        raise build_failed(f'pyproject.toml says requires-python = {shown}; it must be text like ">=3.10" (PEP 440)')
    return str(specifiers) or None


def _package_arguments(repo: Path, folder: Path, project: _Project) -> list[str]:
    # As in repo2docker, a package at the top is installed unless there is a binder folder. A pyproject.toml without a
    # build system, or in a binder folder, only lists dependencies.
    if folder == repo and (project.is_package or (repo / "setup.py").is_file()):
        return ["."]
    if project.has_dependencies:
        return ["--requirement", str((folder / "pyproject.toml").relative_to(repo))]
    return []


def _script(path: Path) -> Path | None:
    """Make a script executable and return its path. Raise `StepError` if it does not name the program to run it."""
    if not path.is_file():
        return None

    with path.open("rb") as script:
        first_line = script.readline(256)
    if not first_line.startswith(b"#!"):
        raise build_failed(f"{path.name} must begin with a line like #!/bin/bash, which says what runs it")
    if first_line.endswith(b"\r\n"):
        raise build_failed(f"{path.name} has Windows line endings: save it with Unix ones, so that it can be run")

    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise build_failed(f"{path.name} is larger than a MiB")
    return path.read_text(encoding="utf-8", errors="replace")
