"""Repositories on GitHub, or on a GitHub Enterprise server. Spec: `<user>/<repo>/<ref>`; the ref may hold slashes."""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from services.common.git.remote import is_full_sha
from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.resolver.github_api import GitHubApi
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import names_of
from services.resolver.settings import ResolverSettings

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_OLD_DEFAULTS = ("master", "main")


class GitHub(Provider):
    """The default branch may have been renamed since a link was made: a missing `master` or `main` means HEAD."""

    prefix = "gh"
    name = "GitHub"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self.api = GitHubApi(settings)

    @property
    def display_config(self) -> dict[str, Any]:
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

    async def resolve(self, spec: str) -> ResolvedRepo:
        user, repo, ref = self._parts(spec)
        notice = None
        try:
            commit = await self.api.commit(user, repo, ref)
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
        sha, url = commit.sha, f"{self.settings.github_url}/{user}/{repo}"
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

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """The same without `.git`, which GitHub takes too, and by `git`."""
        user, repo, ref = self._parts(spec)
        return names_of(f"{self.settings.github_url}/{user}/{repo}", ref, self.settings.github_url)

    async def aclose(self) -> None:
        await self.api.aclose()

    @staticmethod
    def _parts(spec: str) -> tuple[str, str, str]:
        parts = spec.split("/", 2)
        if len(parts) < 3:
            message = f'Spec is not of the form "user/repo/ref", provided: "{spec[:200]}".'
            if len(parts) == 2 and parts[1] not in {"HEAD", *_OLD_DEFAULTS}:
                message += f' Did you mean "{spec[:200]}/HEAD"?'
            raise BinderyError("bad_spec", message)
        user, repo, ref = parts[0], parts[1].removesuffix(".git"), checked_ref(unquote(parts[2]), spec)
        for name in (user, repo):
            if not _NAME.fullmatch(name) or name in {".", ".."}:
                raise BinderyError("bad_spec", f"{name[:100]!r} can't be the name of a user or repository on GitHub.")
        return user, repo, ref
