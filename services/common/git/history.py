"""The history of a commit that was fetched alone: branches and tags as `git clone` has them, up to a size.

The commit is there already, so a server sends only what is older: first the commit's own history with all tags, and
then the other branches, of which one may be many times as large (a built site, for instance). What is too large is
removed. Without its history, a commit is a shallow repository with its own tags.
"""

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from services.common.git.commit import fetch_objects
from services.common.git.process import GitRunner, size_of
from services.common.git.refs import objects_there, remote_refs, write_refs
from services.common.git.urls import Remote
from services.common.git.words import size_text
from services.common.models.errors import BinderyError

_HISTORY = "The history and the tags"
_BRANCHES = "The other branches"
_SHALLOW = ": this is a shallow checkout of one commit"
_TOO_SLOW = "are left out, because fetching them took too long (BINDERY_FETCH_HISTORY_TIMEOUT_SECONDS)"


@dataclass(kw_only=True)
class HistoryBudget:
    """What the histories of a repository and its submodules may take together, and have taken; and the time of each."""

    max_bytes: int
    timeout_seconds: float
    used_bytes: int = 0

    @property
    def left_bytes(self) -> int:
        """What the next history may take."""
        return max(0, self.max_bytes - self.used_bytes)


async def fetch_history(
    git: GitRunner,
    remote: Remote,
    sha: str,
    folder: Path,
    *,
    has_parents: bool,
    budget: HistoryBudget,
    timeout_seconds: float,
) -> str | None:
    """Fetch the history of commit `sha`, all tags and all branches into the repository at `folder`.

    The commit is there, and `has_parents` says whether there is something before it. Return None if all is there, or
    else a sentence that says what is not, and why. Whatever goes wrong, the commit stays usable, with its own tags if
    the server gives them.
    """
    ends_at = _now() + timeout_seconds
    history = _History(git=git, remote=remote, folder=folder, budget=budget, ends_at=ends_at, there={sha})
    if not has_parents:  # git calls it shallow all the same
        (folder / ".git" / "shallow").unlink(missing_ok=True)
    consequence = _SHALLOW if has_parents else ""
    try:
        async with asyncio.timeout_at(history.ends_at):
            refs = await remote_refs(git, remote, folder)
    except TimeoutError:
        return f"{_HISTORY} {_TOO_SLOW}{consequence}."
    if refs is None:
        return f"{_HISTORY} could not be fetched (the server does not list them){consequence}."

    tags = set(refs.tags.values())
    why = await (history.fetch({sha, *tags}, "--unshallow") if has_parents else history.fetch_missing(tags))
    if why:
        history.ends_at = _now() + timeout_seconds
        await history.fetch(refs.tags_of(sha), "--depth=1", is_counted=False)
        await write_refs(git, refs, folder, known=history.there)
        return f"{_HISTORY} {why}{consequence}."

    why = await history.fetch_missing(set(refs.branches.values()))
    await write_refs(git, refs, folder, known=history.there)
    return f"{_BRANCHES} {why}." if why else None


@dataclass(kw_only=True)
class _History:
    """The history of one repository, which is there by `ends_at` (of the event loop's clock), or not at all.

    `there` names objects that the repository is known to have.
    """

    git: GitRunner
    remote: Remote
    folder: Path
    budget: HistoryBudget
    ends_at: float
    there: set[str]

    async def fetch_missing(self, shas: set[str]) -> str | None:
        """Fetch those of the objects that are not there yet, as `fetch` does."""
        self.there |= await objects_there(self.git, shas - self.there, self.folder)
        missing = shas - self.there
        return await self.fetch(missing) if missing else None

    async def fetch(self, shas: set[str], *options: str, is_counted: bool = True) -> str | None:
        """Fetch objects within the budget; return None if they are there, or else why they are not: `are left out…`.

        What has arrived of them is then removed. Without `is_counted`, only the limit of the whole repository holds.
        """
        spare_bytes = self.git.spare_bytes
        max_bytes = min(self.budget.left_bytes, spare_bytes) if is_counted else spare_bytes
        too_large = self._too_large(spare_bytes)
        if not max_bytes:
            return too_large

        repository = self.folder / ".git"
        state = _State.of(repository)
        size_before = size_of(repository, sys.maxsize)
        limited = replace(self.git, watched_folder=repository, max_bytes=size_before + max_bytes)
        try:
            async with asyncio.timeout_at(self.ends_at):
                result = await fetch_objects(limited, self.remote, self.folder, *options, shas=shas)
        except TimeoutError:
            why = _TOO_SLOW
        except BinderyError as error:
            if not error.has_code("repository_too_large"):
                raise
            why = too_large
        else:
            if result.ok:
                self.there |= shas
                self.budget.used_bytes += max(0, size_of(repository, sys.maxsize) - size_before)
                return None
            why = f"could not be fetched ({result.reason})"
        await asyncio.to_thread(state.restore)
        return why

    def _too_large(self, spare_bytes: int) -> str:
        if spare_bytes < self.budget.left_bytes:
            return "are left out, because they would make the repository too large (BINDERY_FETCH_MAX_BYTES)"
        limit = size_text(self.budget.max_bytes)
        return (
            f"are left out, because they take more than the {limit} allowed for them (BINDERY_FETCH_HISTORY_MAX_BYTES)"
        )


@dataclass(frozen=True)
class _State:
    """What a repository had before objects were fetched."""

    repository: Path
    packs: frozenset[str]
    shallow: bytes | None

    @classmethod
    def of(cls, repository: Path) -> Self:
        shallow = repository / "shallow"
        packs = repository / "objects" / "pack"
        return cls(
            repository,
            frozenset(path.name for path in packs.iterdir()) if packs.is_dir() else frozenset(),
            shallow.read_bytes() if shallow.exists() else None,
        )

    def restore(self) -> None:
        """Remove what has been added since, whole or in parts."""
        for path in (self.repository / "objects" / "pack").glob("*"):
            if path.name not in self.packs:
                path.unlink()
        shallow = self.repository / "shallow"
        shallow.with_name("shallow.lock").unlink(missing_ok=True)
        if self.shallow is None:
            shallow.unlink(missing_ok=True)
        else:
            shallow.write_bytes(self.shallow)


def _now() -> float:
    return asyncio.get_running_loop().time()
