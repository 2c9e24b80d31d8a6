"""Listing the refs of git repositories, with every address checked."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.common.git.advertisement import refs_advertised
from services.common.git.process import GitResult, GitRunner
from services.common.git.urls import WEB, git_url, is_full_sha, locate
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy

__all__ = ["WEB", "git_url", "is_full_sha", "list_refs"]

GIB = 2**30
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
        raise remote_failure(result, url, "provider_unavailable")
    return Listing(refs_listed(result.output), found_at)


def refs_listed(output: bytes) -> dict[str, str]:
    """Return the refs in the output of `git ls-remote`, by name."""
    rows = (line.partition("\t") for line in output.decode("utf-8", "surrogateescape").split("\n"))
    return {name: sha for sha, _, name in rows if is_full_sha(sha)}


def remote_failure(result: GitResult, url: str, otherwise: ErrorCode) -> BinderyError:
    """Return the error for git's message: no public repository, or else `otherwise`, for a server that fails."""
    if any(sign in result.messages for sign in _ABSENT):
        return BinderyError("ref_not_found", f"There is no public git repository at {url}.")
    return BinderyError(otherwise, f"git can't read {url}: {result.reason}.")
