"""Listing the refs of git repositories and fetching a commit, with every address checked."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.common.git.advertisement import refs_advertised
from services.common.git.process import GitResult, GitRunner, OnLine
from services.common.git.submodules import MAX_DEPTH, MAX_SUBMODULES, Submodule, place_of, submodules_of
from services.common.git.urls import WEB, Remote, git_url, is_full_sha, locate, submodule_url
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy
from services.common.service.logging import redact

__all__ = ["WEB", "fetch_repository", "git_url", "is_full_sha", "list_refs"]

GIB = 2**30
ADVERTISEMENT_BYTES = 256 * 1024
"""How much of a server's first response is read; for a repository with more refs, git itself lists them."""
_ABSENT = ("not found", "does not exist", "not appear to be a git repository", "is this a git repository", "Username")
_REFUSES_SHAS = ("unadvertised object", "not valid", "dumb http transport", "not support shallow")
_ALL_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", "+refs/*:refs/bindery/*")


@dataclass(frozen=True)
class Listing:
    """The refs of a repository by name, and the URL that the redirects of an http or https one led to.

    Bytes of a name that are not UTF-8 are surrogates (PEP 383).
    """

    refs: dict[str, str]
    url: str


async def list_refs(
    url: str,
    *patterns: str,
    policy: NetworkPolicy,
    proxy: OutboundProxy | None = None,
    timeout_seconds: float = 30.0,
    allowed_protocols: frozenset[str] = WEB,
) -> Listing:
    """Return the refs of `url` that match the patterns; without patterns, all refs.

    A pattern matches the end of a name, as in git. Annotated tags appear twice, as git lists them: `<name>` is the tag
    object, and `<name>^{}` is what it points at.
    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found` (no such repository), `rate_limited`,
    `provider_unavailable`.
    """
    try:
        client = CheckedClient(policy, proxy=proxy, total_seconds=timeout_seconds)
        async with asyncio.timeout(timeout_seconds), client:
            remote = await locate(url, client, allowed_protocols, body_bytes=ADVERTISEMENT_BYTES)
            found_at = remote.url if remote.url.startswith(("http://", "https://")) else url

            if (refs := refs_advertised(remote.advertisement, patterns)) is not None:
                return Listing(refs, found_at)

            with tempfile.TemporaryDirectory(prefix="bindery-git-") as home:
                git = GitRunner(home=Path(home), allowed_protocols=allowed_protocols, memory_bytes=GIB)
                result = await git.run("ls-remote", "-q", "--", remote.url, *patterns, config=remote.config)
    except TimeoutError as error:
        raise BinderyError("provider_unavailable", f"{url} did not answer within {timeout_seconds:g} s.") from error
    if not result.ok:
        raise _failure(result, url, "provider_unavailable")
    return Listing(_refs_listed(result.output), found_at)


def _refs_listed(output: bytes) -> dict[str, str]:
    """Return the refs in the output of `git ls-remote`, by name."""
    rows = (line.partition("\t") for line in output.decode("utf-8", "surrogateescape").split("\n"))
    return {name: sha for sha, _, name in rows if is_full_sha(sha)}


async def fetch_repository(
    repo_url: str,
    ref: str,
    target: Path,
    *,
    policy: NetworkPolicy,
    proxy: OutboundProxy | None = None,
    timeout_seconds: float,
    on_line: OnLine | None = None,
    max_bytes: int = 10 * GIB,
    allowed_protocols: frozenset[str] = WEB,
) -> None:
    """Check out commit `ref` (40 or 64 hex digits) of `repo_url` in `target`, with its submodules.

    `target` is created, or is an empty folder. git's own messages go to `on_line`, one line at a time. Submodules are
    fetched one level at a time, and each URL is checked as the first one is. After an error the caller deletes what
    has been fetched.

    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found`, `repository_too_large` (over `max_bytes`,
    with git's own files), `fetch_failed`, and `build_failed` for submodules that only the author can fix.
    """
    if not is_full_sha(ref):
        raise BinderyError("bad_spec", f"{ref!r} is not the full name of a commit (40 or 64 hex digits).")

    target.mkdir(parents=True, exist_ok=True)
    root = target.resolve()

    try:
        async with asyncio.timeout(timeout_seconds), CheckedClient(policy, proxy=proxy) as client:
            with tempfile.TemporaryDirectory(prefix="bindery-git-") as home:
                git = GitRunner(
                    home=Path(home),
                    allowed_protocols=allowed_protocols,
                    watched_folder=root,
                    max_bytes=max_bytes,
                    on_line=on_line,
                )
                await _Fetch(git=git, client=client, root=root).repository(
                    git_url(repo_url, allowed_protocols), ref.lower(), root
                )
    except TimeoutError as error:
        raise BinderyError("fetch_failed", f"Fetching {repo_url} took over {timeout_seconds:g} s.") from error


@dataclass(kw_only=True)
class _Fetch:
    """One fetch with all its submodules."""

    git: GitRunner
    client: CheckedClient
    root: Path
    submodules: int = 0

    async def repository(self, url: str, sha: str, folder: Path, depth: int = 0) -> None:
        """Fetch one repository, and then its submodules, to `folder`."""
        remote = await self._locate(url)
        await self._run_checked("init", "--quiet", "--template=", ".", cwd=folder)
        await self._run_checked("remote", "add", "origin", url, cwd=folder)
        await self._commit(remote, url, sha, folder)

        result = await self.git.run("checkout", "--quiet", "--force", "--detach", sha, cwd=folder)
        if not result.ok:
            is_bad_path = "invalid path" in result.messages
            code: ErrorCode = "build_failed" if is_bad_path else "fetch_failed"
            raise BinderyError(code, f"Commit {sha} of {url} can't be checked out: {result.reason}.")

        for submodule in await submodules_of(self.git, sha, folder):
            self.submodules += 1
            if depth >= MAX_DEPTH or self.submodules > MAX_SUBMODULES:
                raise BinderyError(
                    "build_failed",
                    f"The repository has more submodules than are fetched ({MAX_SUBMODULES}, {MAX_DEPTH} levels).",
                )
            await self._submodule(url, submodule, folder, depth)

    async def _submodule(self, parent: str, submodule: Submodule, folder: Path, depth: int) -> None:
        if self.git.on_line:
            self.git.on_line(f"Fetching submodule {submodule.path} from {redact(submodule.url)}")
        try:
            place = place_of(submodule, folder)
            url = git_url(submodule_url(parent, submodule.url), self.git.allowed_protocols)
            await self.repository(url, submodule.sha, place, depth + 1)
        except BinderyError as error:
            code: ErrorCode = "build_failed" if error.has_code("bad_spec", "ref_not_found") else error.code
            raise BinderyError(code, f"Submodule {submodule.path}: {error.detail}") from error

    async def _locate(self, url: str) -> Remote:
        try:
            return await locate(url, self.client, self.git.allowed_protocols)
        except BinderyError as error:
            if not error.has_code("provider_unavailable", "rate_limited"):
                raise
            after = error.retry_after_seconds
            raise BinderyError("fetch_failed", error.detail, retry_after_seconds=after) from error

    async def _commit(self, remote: Remote, url: str, sha: str, folder: Path) -> None:
        """Fetch one commit: alone if the server allows it, or else with the history of every ref."""
        fetch = ("fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        result = await self.git.run(*fetch, "--depth=1", "--", remote.url, sha, cwd=folder, config=remote.config)
        if not result.ok and any(sign in result.messages for sign in _REFUSES_SHAS):
            result = await self.git.run(*fetch, "--", remote.url, *_ALL_REFS, cwd=folder, config=remote.config)
        has_commit = result.ok and (await self.git.run("cat-file", "-e", f"{sha}^{{commit}}", cwd=folder)).ok
        if result.ok and not has_commit:
            raise BinderyError("ref_not_found", f"There is no commit {sha} in {url}.")
        if "not our ref" in result.messages:
            raise BinderyError("ref_not_found", f"There is no commit {sha} in {url}.")
        if not result.ok:
            raise _failure(result, url, "fetch_failed")

    async def _run_checked(self, *arguments: str, cwd: Path) -> GitResult:
        result = await self.git.run(*arguments, cwd=cwd)
        if not result.ok:
            raise BinderyError("fetch_failed", f"git {arguments[0]} failed: {result.reason}.")
        return result


def _failure(result: GitResult, url: str, otherwise: ErrorCode) -> BinderyError:
    """Return the error for git's message: no public repository, or else `otherwise`, for a server that fails."""
    if any(sign in result.messages for sign in _ABSENT):
        return BinderyError("ref_not_found", f"There is no public git repository at {url}.")
    return BinderyError(otherwise, f"git can't read {url}: {result.reason}.")
