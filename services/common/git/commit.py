"""Fetching one commit: alone if the server gives it, or else with everything that has a name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from services.common.git.process import GitResult, GitRunner, OnLine
from services.common.git.remote import refs_listed, remote_failure
from services.common.git.urls import Remote
from services.common.models.errors import BinderyError

_FETCH = ("fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
CLONED_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
"""What `git clone` has of a repository, and where."""

_OTHER_REFS = ("+refs/*:refs/bindery/*",)
_REFUSES_SHAS = ("unadvertised object", "not valid", "dumb http transport", "not support shallow")
_UNKNOWN_SHA = "not our ref"
_MISSING = (_UNKNOWN_SHA, "couldn't find remote ref HEAD")
_OTHER_FORMAT = ("mismatched algorithms", "unknown object format", "expected sha/ref")


def object_format(sha: str) -> str:
    """Return the object format of a repository with a commit of this name: `sha1` or `sha256`."""
    return "sha256" if len(sha) == 64 else "sha1"


async def fetch_commit(git: GitRunner, remote: Remote, sha: str, folder: Path, *, url: str) -> bool:
    """Fetch commit `sha` into the new repository at `folder`; return whether it came alone, without its history.

    A server that gives no single commit is asked for branches and tags, then for all other refs, and then for what a
    detached HEAD names. `url` is what messages call the repository.

    Raise `BinderyError`: `ref_not_found` for a missing commit, `fetch_failed`, `repository_too_large`.
    """
    result = await fetch_refs(git, remote, folder, "--depth=1", refs=[sha])
    if result.ok and await has_commit(git, sha, folder):
        return True

    refuses = any(sign in result.messages for sign in _REFUSES_SHAS)
    # By protocol 0, a server says so of every commit that is not the tip of a ref.
    refuses = refuses or (_UNKNOWN_SHA in result.messages and not remote.speaks_protocol_2)
    if refuses:
        for refs in (CLONED_REFS, _OTHER_REFS, ("HEAD",)):
            result = await fetch_refs(git, remote, folder, refs=refs)
            if await has_commit(git, sha, folder):
                return False
            if not result.ok:
                break

    raise await _why_missing(git, remote, sha, folder, result, url=url)


async def fetch_refs(git: GitRunner, remote: Remote, folder: Path, *options: str, refs: Sequence[str]) -> GitResult:
    """Fetch refspecs, or commits by their names, into the repository at `folder`, which then has one file of refs.

    The lines that git has for each ref are left out, and those of a failure, which the caller may recover from, or
    says in a line of its own. Raise `BinderyError` as `GitRunner.run` does.
    """
    quiet = replace(git, on_line=_without_outcome(git.on_line))
    result = await quiet.run(*_FETCH, *options, "--", remote.url, *refs, cwd=folder, config=remote.config)
    if any(":" in ref for ref in refs):  # git writes a file for each
        await quiet.run("pack-refs", "--all", cwd=folder)
    return result


async def has_commit(git: GitRunner, sha: str, folder: Path) -> bool:
    """Return whether the repository at `folder` has a commit, or a tag of one, with this name."""
    return (await git.run("cat-file", "-e", f"{sha}^{{commit}}", cwd=folder)).ok


async def _why_missing(
    git: GitRunner, remote: Remote, sha: str, folder: Path, result: GitResult, *, url: str
) -> BinderyError:
    """Return the error for a commit that could not be fetched, by git's message and by what the server lists."""
    listing = await git.unwatched.run("ls-remote", "-q", "--", remote.url, cwd=folder, config=remote.config)
    if listing.ok and not refs_listed(listing.output):
        return BinderyError("ref_not_found", f"{url} is an empty repository: nothing has been committed to it.")
    if any(sign in result.messages for sign in _OTHER_FORMAT):
        digits = 40 if object_format(sha) == "sha256" else 64
        return BinderyError("ref_not_found", f"There is no commit {sha} in {url}: names there have {digits} digits.")
    if result.ok or any(sign in result.messages for sign in _MISSING):
        return BinderyError("ref_not_found", f"There is no commit {sha} in {url}.")
    return remote_failure(result, url, "fetch_failed")


def _without_outcome(on_line: OnLine | None) -> OnLine | None:
    """Return an `on_line` that leaves out what git has to say of each ref, and of its own failure."""
    if on_line is None:
        return None
    write = on_line

    def relay(line: str) -> None:
        if not line.startswith((" * [new ", "From ", "fatal: ", "error: ")):
            write(line)

    return relay
