"""Repositories on GitHub, or on a GitHub Enterprise server. Spec: `<user>/<repo>/<ref>`; the ref may hold slashes."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from services.common.git.remote import is_full_sha
from services.common.models import ResolvedRepo, Site, Spec
from services.common.models.errors import BinderyError
from services.resolver.git_refs import existing_refs
from services.resolver.github_api import Commit, GitHubApi
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import links_to
from services.resolver.settings import ResolverSettings
from services.resolver.sites import GITHUB_NOT_OWNERS, GITHUB_PAGES, GITHUB_REPOSITORY, RAW_FILES

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_OLD_DEFAULTS = ("master", "main")
_PUBLIC_URL = "https://github.com"
_ALSO_AT = (
    "https://ssh.github.com",
    "https://api.github.com/repos",
    "https://codeload.github.com",
    "https://github.com/codespaces/new",
    "https://codespaces.new",
    "https://github.dev",
    "https://github1s.com",
    "https://vscode.dev/github",
    "https://nbviewer.org/github",
    "https://nbviewer.jupyter.org/github",
    "https://colab.research.google.com/github",
)
_FILES_ALSO_AT = (
    "https://media.githubusercontent.com/media",
    "https://nbviewer.org/urls/raw.githubusercontent.com",
    "https://nbviewer.jupyter.org/urls/raw.githubusercontent.com",
)
"""Other sites that show the repositories of github.com, or their files."""


class GitHub(Provider):
    """Repositories on GitHub.

    The default branch may have been renamed since a link was made, so a missing `master` or `main` means HEAD.
    """

    prefix = "gh"
    name = "GitHub"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self.api = GitHubApi(settings)

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        host = urlsplit(self.settings.github_url).netloc

        return {
            "displayName": "GitHub",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": rf"^(https?://{host}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitHub repository name or URL",
                "placeholder": "example: binder-examples/requirements or "
                f"{self.settings.github_url}/binder-examples/requirements",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """GitHub itself, and other sites that show what is on github.com."""
        url = self.settings.github_url
        is_public = url == _PUBLIC_URL
        own = Site(
            name=self.name,
            provider=self.prefix,
            url=url,
            also_at=_ALSO_AT if is_public else (),
            clone_url=f"{url}/{{repository}}",
            repository=GITHUB_REPOSITORY,
            pages=GITHUB_PAGES,
            not_owners=GITHUB_NOT_OWNERS,
        )
        files = {"url": "https://raw.githubusercontent.com", "also_at": _FILES_ALSO_AT, "pages": RAW_FILES}
        return (own, own.updated(**files)) if is_public else (own,)

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the commit that the ref names now, with a notice if HEAD stands in for an old default branch."""
        user, repo, ref = self._parts(spec)
        commit, notice = await self._commit(user, repo, ref)
        sha = commit.sha
        url = f"{self.settings.github_url}/{user}/{repo}"
        was_renamed = commit.repository.lower() != f"{user}/{repo}".lower()

        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{user}/{repo}/{sha}",
            ref_url=f"{url}/tree/{sha}",
            slug=f"{user}-{repo}",
            display_name=f"{user}/{repo}",
            notice=notice,
            immutable_spec=is_full_sha(ref) and ref.lower() == sha,
            ignores_case=True,
            reached_url=f"{self.settings.github_url}/{commit.repository}" if was_renamed else None,
        )

    async def _commit(self, user: str, repo: str, ref: str) -> tuple[Commit, str | None]:
        """Return the commit, and a notice for the user if it is another branch's than the link says."""
        try:
            return await self.api.commit(user, repo, ref), None
        except BinderyError as error:
            if not error.has_code("ref_not_found") or ref not in _OLD_DEFAULTS:
                raise
            try:
                commit = await self.api.commit(user, repo, "HEAD")
            except BinderyError as of_head:
                raise (error if of_head.has_code("ref_not_found") else of_head) from of_head

        notice = (
            f"{user}/{repo} has no branch {ref}: its default branch (HEAD) is used instead. Please update the link."
        )
        return commit, notice

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link without `.git`, which GitHub accepts too, and the links by `git`."""
        user, repo, ref = self._parts(spec)
        return links_to(f"{self.settings.github_url}/{user}/{repo}", ref, self.settings.github_url)

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git: the API would need a request for each ref, and its limit is lower."""
        user, repo, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{self.settings.github_url}/{user}/{repo}", refs, self.settings)

    async def aclose(self) -> None:
        """Close the API client's connections."""
        await self.api.aclose()

    @staticmethod
    def _parts(spec: str) -> tuple[str, str, str]:
        """Return user, repository and ref. Raise `BinderyError("bad_spec")`."""
        parts = spec.split("/", 2)
        if len(parts) < 3:
            message = f'Spec is not of the form "user/repo/ref", provided: "{spec[:200]}".'
            if len(parts) == 2 and parts[1] not in {"HEAD", *_OLD_DEFAULTS}:
                message += f' Did you mean "{spec[:200]}/HEAD"?'
            raise BinderyError("bad_spec", message)

        user = parts[0]
        repo = parts[1].removesuffix(".git")
        ref = checked_ref(unquote(parts[2]), spec, is_option_allowed=True)
        for name in (user, repo):
            if not _NAME.fullmatch(name) or name in {".", ".."}:
                raise BinderyError("bad_spec", f"{name[:100]!r} can't be the name of a user or repository on GitHub.")
        return user, repo, ref
