"""Any git repository that answers over HTTP. Spec: `<percent-encoded URL>/<ref>`."""

from typing import Any
from urllib.parse import quote, unquote, urlsplit

from services.common.git.remote import WEB, git_url, is_full_sha, list_refs
from services.common.git.repository_url import canonical_url, plain_url
from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.net.outbound import goes_by_proxy
from services.common.service.logging import shown
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import names_of, path_on
from services.resolver.settings import ResolverSettings


class Git(Provider):
    """Names are matched whole: a branch, else a tag (the commit that it points at), else a full ref name."""

    prefix = "git"
    name = "Git"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self.policy, self.proxy = settings.networks, settings.proxy

    @property
    def display_config(self) -> dict[str, Any]:
        return {
            "displayName": "Git repository",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/.+"},
            "repo": {
                "label": "Arbitrary git repository URL",
                "placeholder": "example: http://git.example.com/repo",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    async def resolve(self, spec: str) -> ResolvedRepo:
        quoted_url, url, ref = self._parts(spec)
        reached = url
        if is_full_sha(ref):
            sha = ref.lower()
            await self._check_address(url)
        else:
            sha, reached = await self._look_up(url, ref)
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{quoted_url}/{sha}",
            ref_url=url,
            slug=url,
            display_name=url,
            immutable_spec=is_full_sha(ref),
            ignores_case=path_on(self.settings.github_url, reached) is not None,
            reached_url=reached if canonical_url(reached) != canonical_url(url) else None,
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """The same with the URL in its other spellings; a repository on GitHub is also `gh/<user>/<repo>/<ref>`."""
        _, url, ref = self._parts(spec)
        return names_of(url, ref, self.settings.github_url)

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """The link itself, and the same with the URL spelled plainly; on GitHub, also what it is by `gh`."""
        _, url, ref = self._parts(spec)
        plain = Spec(provider=self.prefix, spec=f"{quote(plain_url(url), safe='')}/{ref}")
        by_gh = [name for name in self.also_known_as(spec) if name.provider == "gh"]
        return (*super().allowed_as(spec), plain, *by_gh)

    def _parts(self, spec: str) -> tuple[str, str, str]:
        """The URL as given, the URL that it means, and the ref."""
        quoted_url, slash, quoted_ref = spec.partition("/")
        if not slash:
            given = shown(unquote(spec))
            given = shown(spec) if given == unquote(spec) else given  # a secret would be read through the encoding
            raise BinderyError(
                "bad_spec",
                f'Spec is not of the form "<percent-encoded URL>/<ref>", provided: "{given}". '
                f"Did you mean {given}/HEAD?",
            )
        url = git_url(unquote(quoted_url), self.settings.git_protocols)
        return quoted_url, url, checked_ref(unquote(quoted_ref), spec)

    async def _check_address(self, url: str) -> None:
        """A full sha needs no question to the repository, but a forbidden address is said at once."""
        parts = urlsplit(plain_url(url))
        by_proxy = parts.scheme in WEB and goes_by_proxy(parts.hostname or "", self.policy, self.proxy)
        if parts.hostname and not by_proxy:
            await self.policy.addresses(parts.hostname, parts.port or 0)

    async def _look_up(self, url: str, ref: str) -> tuple[str, str]:
        """The commit that `ref` names, and where the repository was found."""
        listing = await list_refs(
            url,
            ref,
            f"{ref}^{{}}",
            policy=self.policy,
            proxy=self.proxy,
            timeout_seconds=self.settings.git_timeout_seconds,
            allowed_protocols=self.settings.git_protocols,
        )
        names = [ref, *(f"{folder}{ref}" for folder in ("refs/heads/", "refs/tags/", "refs/"))]
        for name in names if ref == "HEAD" else [*names[1:3], ref, names[3]]:
            if sha := listing.refs.get(f"{name}^{{}}") or listing.refs.get(name):
                return sha, listing.url
        raise BinderyError("ref_not_found", f"There is no branch, tag or commit {ref} in {url}.")
