"""The refs of a git repository: its server is asked as anybody, and where that finds nothing, as the operator."""

from collections.abc import Sequence

from services.common.git.remote import Listing, is_full_sha, list_refs
from services.common.models import Visibility
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.resolver.settings import ResolverSettings

_GLOBS = frozenset("*?[\\")


def names_of(ref: str) -> list[str]:
    """Return the full names that `ref` may mean, in the order in which git servers' pages look for them."""
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}", ref, f"refs/{ref}"]
    return [ref, *names] if ref == "HEAD" else names


async def existing_refs(url: str, refs: Sequence[str], settings: ResolverSettings) -> tuple[str, ...]:
    """Return those of `refs` that the repository at `url` has, asked with one listing; full shas are taken to exist.

    What git would read as a pattern is no name of a ref.

    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found` (no such repository), `rate_limited`,
    `provider_unavailable`.
    """
    names = [ref for ref in refs if not _GLOBS & set(ref)]
    if not names:
        return ()

    listing, _ = await list_readable_refs(url, *names, settings=settings, credential=settings.credential_for(url))
    found = listing.refs
    return tuple(ref for ref in names if is_full_sha(ref) or any(name in found for name in names_of(ref)))


async def list_readable_refs(
    url: str, *patterns: str, settings: ResolverSettings, credential: ScopedCredential | None
) -> tuple[Listing, Visibility]:
    """Return the refs of `url` that match, and who may read the repository: everybody, or who has the credential.

    Raise `BinderyError`.
    """
    try:
        return await list_git_refs(url, *patterns, settings=settings), Visibility.PUBLIC
    except BinderyError as error:
        if credential is None or not error.has_code("ref_not_found"):
            raise
    return await list_git_refs(url, *patterns, settings=settings, credential=credential), Visibility.PRIVATE


async def list_git_refs(
    url: str, *patterns: str, settings: ResolverSettings, credential: ScopedCredential | None = None
) -> Listing:
    """Return the refs of `url` that match, as the settings let git servers be asked. Raise `BinderyError`."""
    return await list_refs(
        url,
        *patterns,
        policy=settings.networks,
        proxy=settings.proxy,
        timeout_seconds=settings.git_timeout_seconds,
        allowed_protocols=settings.git_protocols,
        max_bytes=settings.git_listing_max_bytes,
        max_processes=settings.git_processes_max,
        credential=credential,
    )
