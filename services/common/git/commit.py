"""Fetching one commit: alone if the server gives it, or else with everything that has a name."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from services.common.git.process import GitResult, GitRunner, OnLine
from services.common.git.protocol_2 import capabilities
from services.common.git.refs import remote_refs, write_refs
from services.common.git.remote import remote_failure
from services.common.git.urls import Remote
from services.common.models.errors import BinderyError
from services.common.net.outbound import CheckedClient

_FETCH = ("fetch", "--quiet", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--stdin")
_REFUSES_SHAS = ("unadvertised object", "not valid", "dumb http transport", "not support shallow")
_UNKNOWN_SHA = "not our ref"
_OTHER_FORMAT = ("mismatched algorithms", "unknown object format", "expected sha/ref")


@dataclass(frozen=True)
class FetchedCommit:
    """A commit that is there: whether it came alone, without its history, and whether there is something before it."""

    is_alone: bool
    has_parents: bool


def object_format(sha: str) -> str:
    """Return the object format of a repository with a commit of this name: `sha1` or `sha256`."""
    return "sha256" if len(sha) == 64 else "sha1"


async def fetch_commit(
    git: GitRunner, remote: Remote, sha: str, folder: Path, *, url: str, client: CheckedClient
) -> FetchedCommit:
    """Fetch commit `sha`, or that of a tag with this name, into the new repository at `folder`.

    A server that gives no single commit is asked for branches and tags, and then for whatever else has a name. `url` is
    what messages call the repository.

    Raise `BinderyError`: `ref_not_found` for a missing commit, `fetch_failed`, `repository_too_large`, and what
    `client` raises.
    """
    result = await fetch_objects(git, remote, folder, "--depth=1", shas=[sha])
    if result.ok and (commit := await _read_commit(git, sha, folder)):
        return FetchedCommit(is_alone=True, has_parents=_has_parents(commit))

    refuses = any(sign in result.messages for sign in _REFUSES_SHAS)
    if _UNKNOWN_SHA in result.messages and not refuses:
        # By protocol 0, a server says so of every commit that is not the tip of a ref.
        refuses = remote.is_web and not (await capabilities(remote, client)).has_protocol_2
    listing = await remote_refs(git, remote, folder)
    if refuses and listing:
        for shas in (listing.cloned, listing.named):
            result = await fetch_objects(git, remote, folder, shas=shas)
            await write_refs(git, listing, folder)
            if commit := await _read_commit(git, sha, folder):
                return FetchedCommit(is_alone=False, has_parents=_has_parents(commit))
            if not result.ok:
                break

    raise _why_missing(sha, result, url, is_empty=listing is not None and not listing.all)


async def fetch_objects(git: GitRunner, remote: Remote, folder: Path, *options: str, shas: Iterable[str]) -> GitResult:
    """Fetch commits and tags by their names, with what belongs to them, into the repository at `folder`.

    Without names, nothing is fetched. Lines about a failure are left out: a caller may recover from it, or says so
    itself. Raise `BinderyError` as `GitRunner.run` does.
    """
    data = "".join(f"{sha}\n" for sha in sorted(shas)).encode()
    if not data:  # git would fetch what HEAD names
        return GitResult(0, b"", "")
    quiet = replace(git, on_line=_without_failures(git.on_line))
    return await quiet.run(*_FETCH, *options, "--", remote.url, cwd=folder, config=remote.config, data=data)


async def _read_commit(git: GitRunner, sha: str, folder: Path) -> bytes:
    """Return a commit, or that of a tag with this name, as git stores it; nothing if it is not there."""
    result = await git.unwatched.run("cat-file", "commit", sha, cwd=folder)
    return result.output if result.ok else b""


def _has_parents(commit: bytes) -> bool:
    return b"\nparent " in commit.partition(b"\n\n")[0]


def _why_missing(sha: str, result: GitResult, url: str, *, is_empty: bool) -> BinderyError:
    """Return the error for a commit that could not be fetched, by git's message."""
    if is_empty:
        return BinderyError("ref_not_found", f"{url} is an empty repository: nothing has been committed to it.")
    if any(sign in result.messages for sign in _OTHER_FORMAT):
        digits = 40 if object_format(sha) == "sha256" else 64
        return BinderyError("ref_not_found", f"There is no commit {sha} in {url}: names there have {digits} digits.")
    if result.ok or _UNKNOWN_SHA in result.messages:
        return BinderyError("ref_not_found", f"There is no commit {sha} in {url}.")
    return remote_failure(result, url, "fetch_failed")


def _without_failures(on_line: OnLine | None) -> OnLine | None:
    """Return an `on_line` that leaves out what git has to say of its own failure."""
    if on_line is None:
        return None
    write = on_line

    def relay(line: str) -> None:
        if not line.startswith(("fatal: ", "error: ")):
            write(line)

    return relay
