"""The history of a commit that was fetched alone: branches and tags as `git clone` has them, up to a size.

The commit is there already, so a server sends only what is older. If that is too large, it is removed, and what remains
is a shallow repository with the commit and its own tags.
"""

import asyncio
import contextlib
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from services.common.git.commit import CLONED_REFS, fetch_refs
from services.common.git.process import GitRunner, size_of
from services.common.git.remote import refs_listed
from services.common.git.urls import Remote
from services.common.git.words import size_text
from services.common.models.errors import BinderyError

MAX_TAGS = 20
"""How many tags of a commit come along if its history does not."""
_SHALLOW = "this is a shallow checkout of one commit."


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
    git: GitRunner, remote: Remote, sha: str, folder: Path, *, budget: HistoryBudget, timeout_seconds: float
) -> str | None:
    """Fetch the history of commit `sha`, with all branches and tags, into the repository at `folder`.

    Return None if it is there, or else a sentence that says why not. Whatever goes wrong, the commit stays usable.
    """
    repository = folder / ".git"
    size_before = size_of(repository, sys.maxsize)
    spare_bytes = git.spare_bytes
    max_bytes = min(budget.left_bytes, spare_bytes)
    if max_bytes:
        state = _State.of(repository)
        limited = replace(git, watched_folder=repository, max_bytes=size_before + max_bytes)
        try:
            failure = await _deepen(limited, remote, folder, timeout_seconds)
        except BinderyError as error:
            if not error.has_code("repository_too_large"):
                raise
            await asyncio.to_thread(state.restore)
        else:
            if failure is None:
                budget.used_bytes += max(0, size_of(repository, sys.maxsize) - size_before)
                return None
            await asyncio.to_thread(state.restore)
            return f"The history and the tags could not be fetched ({failure}): {_SHALLOW}"

    if not (repository / "shallow").exists():
        return None  # the commit is the first one: there is nothing before it
    await _fetch_own_tags(git, remote, sha, folder, timeout_seconds)

    why = f"take more than the {size_text(budget.max_bytes)} allowed for them (BINDERY_FETCH_HISTORY_MAX_BYTES)"
    if spare_bytes < budget.left_bytes:
        why = "would make the repository too large (BINDERY_FETCH_MAX_BYTES)"
    return f"The history and the tags are left out, because they {why}: {_SHALLOW}"


async def _deepen(git: GitRunner, remote: Remote, folder: Path, timeout_seconds: float) -> str | None:
    """Fetch what `git clone` has and is not there yet; return git's reason if it can't."""
    # Git refuses to complete what is complete: the first commit of a repository is not shallow.
    options = ["--unshallow"] if (folder / ".git" / "shallow").exists() else []
    try:
        async with asyncio.timeout(timeout_seconds):
            result = await fetch_refs(git, remote, folder, *options, refs=CLONED_REFS)
    except TimeoutError:
        return f"it took over {round(timeout_seconds, 1):g} s"
    return None if result.ok else result.reason


async def _fetch_own_tags(git: GitRunner, remote: Remote, sha: str, folder: Path, timeout_seconds: float) -> None:
    """Fetch the tags of the commit itself, so that `git describe` has a name for it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            listing = await git.run("ls-remote", "-q", "--tags", "--", remote.url, cwd=folder, config=remote.config)
            names = [name.removesuffix("^{}") for name, of in refs_listed(listing.output).items() if of == sha]
            refs = [f"+{name}:{name}" for name in dict.fromkeys(names)][:MAX_TAGS]
            if refs:
                await fetch_refs(git, remote, folder, "--depth=1", refs=refs)


@dataclass(frozen=True)
class _State:
    """What a repository had before its history was fetched."""

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
        """Remove what has been added since, whole or in parts; there were no refs before."""
        for path in (self.repository / "objects" / "pack").iterdir():
            if path.name not in self.packs:
                path.unlink()
        for name in ("remotes", "tags"):
            shutil.rmtree(self.repository / "refs" / name, ignore_errors=True)
        shutil.rmtree(self.repository / "logs", ignore_errors=True)
        for name in ("packed-refs", "packed-refs.lock", "shallow.lock"):
            (self.repository / name).unlink(missing_ok=True)
        if self.shallow is not None:
            (self.repository / "shallow").write_bytes(self.shallow)
