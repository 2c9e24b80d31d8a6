"""The submodules of a commit: the entries of `.gitmodules` for the gitlinks in the commit's tree."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.common.git.process import GitRunner
from services.common.models.errors import BinderyError

MAX_DEPTH = 10
MAX_SUBMODULES = 100
_GITLINK = "160000"
_FILES = ("100644", "100755")


@dataclass(frozen=True, kw_only=True)
class Submodule:
    """A repository inside a repository: its path, its URL (possibly relative), its commit and its name.

    Bytes of path and name that are not UTF-8 are surrogates (PEP 383).
    """

    path: str
    url: str
    sha: str
    name: str = ""


async def submodules_of(git: GitRunner, sha: str, folder: Path) -> list[Submodule]:
    """Return the submodules of commit `sha` in the repository at `folder`, read from the commit, not the working tree.

    A gitlink without an entry in `.gitmodules`, or with `update = none`, is left out: its folder stays empty. Raise
    `BinderyError("build_failed")` for a `.gitmodules` that can't be read.
    """
    lines = await file_of_commit(git, sha, ".gitmodules", r"^submodule\.", folder)
    if not lines:
        return []

    sections: dict[str, dict[str, str]] = {}
    for key, value in lines:
        name, _, variable = key.removeprefix("submodule.").rpartition(".")
        sections.setdefault(name, {})[variable] = value

    by_path = {section.get("path", ""): section | {"name": name} for name, section in sections.items()}

    submodules = []
    for entry in (await git.run("ls-tree", "-r", "-z", "--full-tree", sha, cwd=folder)).output.split(b"\0"):
        head, _, name = os.fsdecode(entry).partition("\t")
        section = by_path.get(name, {})
        if head.startswith(_GITLINK) and section.get("url") and section.get("update") != "none":
            submodules.append(Submodule(path=name, url=section["url"], sha=head.split()[2], name=section["name"]))
    return submodules


async def file_of_commit(git: GitRunner, sha: str, name: str, keys: str, folder: Path) -> list[tuple[str, str]]:
    """Return the settings whose names match `keys` in a commit's file of git's own form, such as `.gitmodules`.

    The commit is checked out at `folder`, but what counts is the file in the commit. A missing file has none. Raise
    `BinderyError("build_failed")` for one that can't be read.
    """
    if not os.path.lexists(folder / name):
        return []
    listing = (await git.run("ls-tree", "-z", sha, "--", name, cwd=folder)).output.decode("utf-8", "replace")
    if not listing.startswith(_FILES):
        return []

    result = await git.run("config", "-z", f"--blob={sha}:{name}", "--get-regexp", keys, cwd=folder)
    if not result.ok and result.messages:  # silent: the file has no such line
        raise BinderyError("build_failed", f"{name} can't be read: {result.reason}.")
    rows = (os.fsdecode(line).partition("\n") for line in result.output.split(b"\0") if line)
    return [(key, value) for key, _, value in rows]


def place_of(submodule: Submodule, folder: Path) -> Path:
    """Create and return the empty folder, inside the repository at `folder`, for `submodule`.

    Raise `BinderyError("build_failed")` for a path that leads elsewhere, through a link or out of the repository.
    """
    parts = submodule.path.split("/")
    place = folder.joinpath(*parts)

    is_unsafe = any(
        part in {"", ".", ".."} or part.lower().rstrip(". ") == ".git" or part.startswith("-") for part in parts
    )
    steps = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    if is_unsafe or any(step.is_symlink() for step in steps) or not place.resolve().is_relative_to(folder.resolve()):
        raise BinderyError("build_failed", f"A submodule can't be put at {submodule.path!r}.")

    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise BinderyError("build_failed", f"A submodule can't be put at {submodule.path!r}: something is there.")
    return place
