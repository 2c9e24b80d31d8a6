"""Whose commit a link names: that of the repository, or anybody's that a forge shows under the repository's name."""

from collections.abc import Mapping

from services.common.git.ref_names import is_hash, is_proposed
from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.resolver.providers.base import Provider

_SHOWN_DIGITS = 12


class CommitOwners:
    """Asks forges among `providers` whether a commit belongs to a repository: where that matters, or always."""

    def __init__(self, providers: Mapping[str, Provider], *, always_asks: bool = False) -> None:
        self._providers = providers
        self._always_asks = always_asks

    async def marked(self, provider: Provider, spec: Spec, repo: ResolvedRepo, *, is_trusted: bool) -> ResolvedRepo:
        """Return a repository with `is_own`, as far as that is known.

        `is_trusted`: whether a rule holds for it by its name. A forge is asked then, and a commit that is not in a
        branch or tag of the repository is refused.

        Raise `BinderyError`: `banned`, and whatever `Provider.has_in_history` raises.
        """
        ref = _ref_of(spec, repo)
        is_own: bool | None = None
        if is_proposed(ref):
            is_own = False
        elif (is_trusted or self._always_asks) and is_hash(ref) and repo.ref.startswith(ref.lower()):
            is_own = await self._has_in_history(provider, repo)

        if is_trusted and is_own is False:
            raise BinderyError(
                "banned",
                f"Commit {repo.ref[:_SHOWN_DIGITS]} is in no branch or tag of {repo.display_name} that was looked at: "
                "it may be anybody's, so what is allowed to that repository is not allowed to it. Launch a branch or a "
                "tag.",
            )
        return repo.updated(is_own=is_own)

    async def _has_in_history(self, provider: Provider, repo: ResolvedRepo) -> bool | None:
        """Return what the forge of a repository says, also of one that is named by its URL."""
        for candidate in (provider, *self._providers.values()):
            if repository := candidate.repository_of(repo.repo_url):
                return await candidate.has_in_history(repository, repo.ref)
        return None


def _ref_of(spec: Spec, repo: ResolvedRepo) -> str:
    """Return the ref of a link: what follows as many slashes as stand before the commit in the resolved one."""
    parts = spec.spec.split("/", repo.resolved_spec.count("/"))
    return parts[-1] if len(parts) > repo.resolved_spec.count("/") else ""
