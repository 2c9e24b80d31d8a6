"""Listing the refs of git repositories, with every address checked."""

import asyncio
import tempfile
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from services.common.git.advertisement import refs_advertised
from services.common.git.process import GitResult, GitRunner
from services.common.git.protocol_2 import capabilities, ls_refs
from services.common.git.urls import WEB, Remote, git_url, is_full_sha, locate
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy

__all__ = ["WEB", "git_url", "is_full_sha", "list_refs"]

MIB = 2**20
GIB = 2**30
MEMORY_BYTES = 256 * MIB
"""What git may take to list refs: it keeps all that a server lists, of however hostile a one."""
_SLOTS: MutableMapping[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
ADVERTISEMENT_BYTES = 256 * 1024
"""How much of a server's first response is read; for a repository with more refs, git itself lists them."""
_ABSENT = ("not found", "does not exist", "not appear to be a git repository", "is this a git repository", "Username")


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
    max_bytes: int = 4 * MIB,
    max_processes: int = 4,
    credential: ScopedCredential | None = None,
) -> Listing:
    """Return the refs of `url` that match the patterns; without patterns, all refs.

    A server is asked for the refs that match by git's protocol 2, unless its first answer has all of its refs. Only one
    that does not speak it, or is not asked by http, is left to git itself: to at most `max_processes` at a time, of
    this process. `max_bytes` bounds the list. `credential` is used for the addresses in its scope.

    A pattern matches the end of a name, as in git. Annotated tags appear twice, as git lists them: `<name>` is the tag
    object, and `<name>^{}` is what it points at.
    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found` (no such repository), `rate_limited`,
    `provider_unavailable`.
    """
    try:
        client = CheckedClient(policy, proxy=proxy, total_seconds=timeout_seconds, credential=credential)
        async with asyncio.timeout(timeout_seconds), client:
            remote = await locate(url, client, allowed_protocols, body_bytes=ADVERTISEMENT_BYTES)
            found_at = remote.url if remote.is_web else url

            if (refs := refs_advertised(remote.advertisement, patterns)) is not None:
                return Listing(refs, found_at)
            if remote.is_web and (server := await capabilities(remote, client)).has_protocol_2:
                return Listing(await ls_refs(remote, client, server, *patterns, max_bytes=max_bytes), found_at)
            async with _slots(max_processes):
                result = await _ls_remote(remote, patterns, allowed_protocols, max_bytes)
    except TimeoutError as error:
        raise BinderyError("provider_unavailable", f"{url} did not answer within {timeout_seconds:g} s.") from error
    if not result.ok:
        raise remote_failure(result, url, "provider_unavailable")
    return Listing(refs_listed(result.output), found_at)


async def _ls_remote(
    remote: Remote, patterns: tuple[str, ...], allowed_protocols: frozenset[str], max_bytes: int
) -> GitResult:
    with tempfile.TemporaryDirectory(prefix="bindery-git-") as home:
        git = GitRunner(
            home=Path(home),
            allowed_protocols=allowed_protocols,
            memory_bytes=MEMORY_BYTES,
            max_output_bytes=max_bytes,
        )
        return await git.run("ls-remote", "-q", "--", remote.url, *patterns, config=remote.config)


def _slots(number: int) -> asyncio.Semaphore:
    """Return what bounds the processes of git that list refs for this event loop."""
    return _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(number))


def refs_listed(output: bytes) -> dict[str, str]:
    """Return the refs in the output of `git ls-remote`, by name."""
    rows = (line.partition("\t") for line in output.decode("utf-8", "surrogateescape").split("\n"))
    return {name: sha for sha, _, name in rows if is_full_sha(sha)}


def remote_failure(result: GitResult, url: str, otherwise: ErrorCode) -> BinderyError:
    """Return the error for git's message: no public repository, or else `otherwise`, for a server that fails."""
    if any(sign in result.messages for sign in _ABSENT):
        return BinderyError("ref_not_found", f"There is no public git repository at {url}.")
    return BinderyError(otherwise, f"git can't read {url}: {result.reason}.")
