"""Checking out a commit of a git repository, with its history, submodules and Git LFS files, every address checked."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from services.common.git.commit import fetch_commit, object_format
from services.common.git.config_file import add_section
from services.common.git.history import HistoryBudget, fetch_history
from services.common.git.lfs import Checkout, fetch_lfs_files
from services.common.git.process import GitRunner, OnLine
from services.common.git.refs import BRANCHES, ORIGIN, attach_head
from services.common.git.remote import ADVERTISEMENT_BYTES, GIB
from services.common.git.submodules import MAX_DEPTH, MAX_SUBMODULES, Submodule, place_of, submodules_of
from services.common.git.urls import WEB, Remote, git_url, is_full_sha, locate, submodule_url, web_url
from services.common.git.words import printable
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy
from services.common.service.redaction import redact

HISTORY_SHARE = 0.5
"""The part of the time left that a history may take at most; what else is to be fetched has the rest."""
LFS_SHARE = 0.9
"""The part of the time left that files in Git LFS may take."""


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
    max_history_bytes: int = GIB,
    history_timeout_seconds: float = 60.0,
    max_lfs_bytes: int = GIB,
    allowed_protocols: frozenset[str] = WEB,
    credential: ScopedCredential | None = None,
) -> None:
    """Check out commit `ref` (40 or 64 hex digits) of `repo_url` in `target`, as `git clone` would.

    `target` is created, or is an empty folder. Lines for a reader, git's own among them, go to `on_line`, one at a
    time. Submodules are fetched one level at a time, and each URL is checked as the first one is. Histories and files
    in Git LFS that are over their limits, or can't be had, are left out with a line; each history may take
    `history_timeout_seconds`. `credential` is used for the addresses in its scope. After an error the caller deletes
    what has been fetched.

    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found`, `repository_too_large` (over `max_bytes`,
    with git's own files), `fetch_failed`, and `build_failed` for submodules that only the author can fix.
    """
    if not is_full_sha(ref):
        raise BinderyError("bad_spec", f"{ref!r} is not the full name of a commit (40 or 64 hex digits).")

    target.mkdir(parents=True, exist_ok=True)
    root = target.resolve()
    ends_at = asyncio.get_running_loop().time() + timeout_seconds

    try:
        async with asyncio.timeout_at(ends_at), CheckedClient(policy, proxy=proxy, credential=credential) as client:
            with tempfile.TemporaryDirectory(prefix="bindery-git-") as home:
                git = GitRunner(
                    home=Path(home),
                    allowed_protocols=allowed_protocols,
                    watched_folder=root,
                    max_bytes=max_bytes,
                    on_line=on_line,
                )
                fetch = _Fetch(
                    git=git,
                    client=client,
                    ends_at=ends_at,
                    history=HistoryBudget(max_bytes=max_history_bytes, timeout_seconds=history_timeout_seconds),
                )
                await fetch.repository(git_url(repo_url, allowed_protocols), ref.lower(), root)

                await fetch_lfs_files(
                    fetch.checkouts,
                    git=git,
                    policy=policy,
                    proxy=proxy,
                    limit_bytes=max_lfs_bytes,
                    timeout_seconds=fetch.seconds_left * LFS_SHARE,
                    credential=credential,
                )
    except TimeoutError as error:
        raise BinderyError("fetch_failed", f"Fetching {repo_url} took over {timeout_seconds:g} s.") from error


@dataclass(kw_only=True)
class _Fetch:
    """One fetch with all its submodules."""

    git: GitRunner
    client: CheckedClient
    ends_at: float
    history: HistoryBudget
    checkouts: list[Checkout] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.ends_at - asyncio.get_running_loop().time())

    async def repository(self, url: str, sha: str, folder: Path, path: str = "", depth: int = 0) -> None:
        """Fetch the repository whose place in the whole is `path`, and then its submodules, to `folder`."""
        with _failed_fetches():
            remote = await locate(url, self.client, self.git.allowed_protocols, body_bytes=ADVERTISEMENT_BYTES)
        await self._init(url, sha, folder)
        with _failed_fetches():
            commit = await fetch_commit(self.git, remote, sha, folder, url=url, client=self.client)
        if commit.is_alone:
            await self._history(remote, sha, folder, path, has_parents=commit.has_parents)

        await self._check_out(url, sha, folder)
        if not path:  # a submodule's HEAD is a commit, also in git
            await attach_head(self.git, sha, folder)

        self.checkouts.append(Checkout(url=url, remote_url=remote.url, sha=sha, folder=folder, path=path))
        for submodule in await submodules_of(self.git.unwatched, sha, folder):
            if depth >= MAX_DEPTH or len(self.checkouts) > MAX_SUBMODULES:
                raise BinderyError(
                    "build_failed",
                    f"The repository has more submodules than are fetched ({MAX_SUBMODULES}, {MAX_DEPTH} levels).",
                )
            await self._submodule(url, submodule, folder, path, depth)

    async def _init(self, url: str, sha: str, folder: Path) -> None:
        """Make the repository at `folder`, whose origin is `url`."""
        new = ("--quiet", "--template=", f"--object-format={object_format(sha)}")
        result = await self.git.run("init", *new, ".", cwd=folder)
        if not result.ok:
            raise BinderyError("fetch_failed", f"git init failed: {result.reason}.")
        add_section(folder, "remote", "origin", url=url, fetch=f"+{BRANCHES}*:{ORIGIN}*")

    async def _check_out(self, url: str, sha: str, folder: Path) -> None:
        result = await self.git.run("checkout", "--quiet", "--force", "--detach", sha, cwd=folder)
        if not result.ok:
            is_bad_path = "invalid path" in result.messages
            code: ErrorCode = "build_failed" if is_bad_path else "fetch_failed"
            raise BinderyError(code, f"Commit {sha} of {url} can't be checked out: {result.reason}.")

    async def _history(self, remote: Remote, sha: str, folder: Path, path: str, *, has_parents: bool) -> None:
        """Fetch the history, or say why it is left out."""
        sentence = await fetch_history(
            self.git,
            remote,
            sha,
            folder,
            has_parents=has_parents,
            budget=self.history,
            timeout_seconds=min(self.history.timeout_seconds, self.seconds_left * HISTORY_SHARE),
        )
        if sentence:
            self._say(f"Submodule {path}: {sentence}" if path else sentence)

    async def _submodule(self, parent: str, submodule: Submodule, folder: Path, path: str, depth: int) -> None:
        self._say(f"Fetching submodule {submodule.path} from {redact(submodule.url)}")
        try:
            place = place_of(submodule, folder)
            url = self._allowed_url(submodule_url(parent, submodule.url), submodule.path)
            inner_path = f"{path}/{submodule.path}" if path else submodule.path
            await self.repository(url, submodule.sha, place, inner_path, depth + 1)
            add_section(folder, "submodule", submodule.name, url=url, active="true")  # one that is in use
        except BinderyError as error:
            code: ErrorCode = "build_failed" if error.has_code("bad_spec", "ref_not_found") else error.code
            raise BinderyError(code, f"Submodule {printable(submodule.path)}: {error.detail}") from error

    def _allowed_url(self, url: str, path: str) -> str:
        """Return the URL of a submodule, or the https one in its place if its protocol is not allowed here.

        Raise `BinderyError("bad_spec")`, as `git_url` does.
        """
        try:
            return git_url(url, self.git.allowed_protocols)
        except BinderyError:
            instead = web_url(url)
            if instead is None:
                raise
            checked = git_url(instead, self.git.allowed_protocols)
        self._say(f"Submodule {path} has no http or https URL: {checked} is tried instead")
        return checked

    def _say(self, line: str) -> None:
        if self.git.on_line:
            self.git.on_line(printable(line))


@contextlib.contextmanager
def _failed_fetches() -> Iterator[None]:
    """Raise `BinderyError("fetch_failed")` for a server that does not answer, or asks for fewer requests."""
    try:
        yield
    except BinderyError as error:
        if not error.has_code("provider_unavailable", "rate_limited"):
            raise
        after = error.retry_after_seconds
        raise BinderyError("fetch_failed", error.detail, retry_after_seconds=after) from error
