"""Any git repository that answers over HTTP. Spec: `<percent-encoded URL>/<ref>`."""

import copy
import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from services.common.git.logins import scoped_login
from services.common.git.remote import WEB, Listing, git_url, is_full_sha
from services.common.git.repository_url import canonical_url, plain_url
from services.common.git.words import printable
from services.common.models import GitCredential, ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.outbound import goes_by_proxy
from services.common.service.redaction import quotable
from services.resolver.git_refs import existing_refs, list_readable_refs, names_of
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import WITHOUT_PROVIDER

_IS_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*")


class Git(Provider):
    """Git repositories anywhere. A ref is a branch, else a tag (the commit it points at), else a full ref name.

    Bytes of a ref that are not UTF-8 are surrogates (PEP 383) inside of this file.
    """

    prefix = "git"
    name = "Git"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self.policy = settings.networks
        self.proxy = settings.proxy
        self._login: GitCredential | None = None

    def on_behalf_of(self, login: GitCredential) -> Self:
        """See `Provider`."""
        theirs = copy.copy(self)
        theirs._login = login
        return theirs

    @property
    def credentials_id(self) -> str:
        """See `Provider`."""
        return self.settings.credentials_id

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
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

    @property
    def sites(self) -> tuple[Site, ...]:
        """The rows of sites that have no provider of their own here."""
        return WITHOUT_PROVIDER

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the commit that the ref names now.

        A full sha is taken as it is, without asking the server, unless that may show the operator more than everybody.
        """
        quoted_url, url, ref = self._parts(spec)
        sha, reached, visibility = ref.lower(), url, Visibility.PUBLIC
        if not is_full_sha(ref):
            sha, reached, visibility = await self._look_up(url, ref)
        elif self._credential(url):
            _, visibility = await self._list(url, "HEAD")
        else:
            await self._check_address(url)

        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{quoted_url}/{sha}",
            ref_url=url,
            slug=url,
            display_name=url,
            visibility=visibility,
            immutable_spec=is_full_sha(ref),
            ignores_case=path_on_forge(self.settings.github_url, reached) is not None,
            reached_url=reached if canonical_url(reached) != canonical_url(url) else None,
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link with other spellings of its URL; on GitHub, also `gh/<user>/<repo>/<ref>`."""
        _, url, ref = self._parts(spec)
        return links_to(url, _in_link(ref), self.settings.github_url)

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link itself and with its URL spelled plainly; for a repository on GitHub, also its `gh` link."""
        _, url, ref = self._parts(spec)
        plain = Spec(provider=self.prefix, spec=f"{quote(plain_url(url), safe='')}/{_in_link(ref)}")
        by_gh = [link for link in self.also_known_as(spec) if link.provider == "gh"]
        return (*super().allowed_as(spec), plain, *by_gh)

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """See `Provider`."""
        _, url, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(url, refs, self.settings)

    def _parts(self, spec: str) -> tuple[str, str, str]:
        """Return the quoted URL, the URL that it means, and the ref. Raise `BinderyError("bad_spec")`."""
        quoted_url, slash, quoted_ref = spec.partition("/")
        if not slash:
            decoded = unquote(spec)
            quoted = quotable(decoded)
            if quoted == decoded:  # no secret in it, which could be read through the encoding: show it as it was typed
                quoted = quotable(spec)
            raise BinderyError(
                "bad_spec",
                f'Spec is not of the form "<percent-encoded URL>/<ref>", provided: "{quoted}". '
                f"Did you mean {quoted}/HEAD?",
            )

        decoded_url = unquote(quoted_url)
        if _IS_PROTOCOL.fullmatch(decoded_url):
            raise BinderyError(
                "bad_spec",
                f"{quotable(spec)!r} is a URL that is not percent-encoded as a whole. Encode its slashes, too: "
                "https%3A%2F%2Fexample.org%2Frepository/HEAD.",
            )
        url = git_url(decoded_url, self.settings.git_protocols)
        ref = unquote(quoted_ref, errors="surrogateescape")
        return quoted_url, url, checked_ref(ref, spec, is_option_allowed=True)

    async def _check_address(self, url: str) -> None:
        """Raise `BinderyError` now for an address that is not allowed: a full sha is resolved without a request."""
        parts = urlsplit(plain_url(url))
        by_proxy = parts.scheme in WEB and goes_by_proxy(parts.hostname or "", self.policy, self.proxy)
        if parts.hostname and not by_proxy:
            await self.policy.addresses(parts.hostname, parts.port or 0)

    def _credential(self, url: str) -> ScopedCredential | None:
        """Return the credential for a repository: that of the request, or the operator's."""
        if self._login:
            return scoped_login(self._login, url, provider=self.prefix)
        return self.settings.credential_for(url)

    async def _list(self, url: str, *patterns: str) -> tuple[Listing, Visibility]:
        """Return the refs of a repository that match, and who may read it."""
        return await list_readable_refs(url, *patterns, settings=self.settings, credential=self._credential(url))

    async def _look_up(self, url: str, ref: str) -> tuple[str, str, Visibility]:
        """Return the commit that `ref` names, the URL at which the repository was reached, and who may read it."""
        listing, visibility = await self._list(url, ref, f"{ref}^{{}}")

        for name in names_of(ref):
            if sha := listing.refs.get(f"{name}^{{}}") or listing.refs.get(name):
                return sha, listing.url, visibility
        raise BinderyError("ref_not_found", await self._why_missing(url, ref))

    async def _why_missing(self, url: str, ref: str) -> str:
        """Return a sentence for a ref that is not there: a typing error, an empty repository, or a HEAD to nowhere."""
        sentence = f"There is no branch, tag or commit {printable(ref)} in {url}."
        try:
            listing, _ = await self._list(url)
        except BinderyError:  # too many refs for one answer, or a server that has just failed
            return sentence

        refs = listing.refs
        if not refs:
            return f"{url} is an empty repository: nothing has been committed to it."
        if ref != "HEAD":
            return sentence
        branches = [name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/")]
        example = f", such as {printable(min(branches))}" if branches else ""
        return f"{url} has no default branch: its HEAD names one that is not there. Name a branch in the link{example}."


def _in_link(ref: str) -> str:
    """Return a ref as links have it: with its bytes that are not UTF-8 percent-encoded."""
    letters = (quote(letter, errors="surrogateescape") if "\udc80" <= letter <= "\udcff" else letter for letter in ref)
    return "".join(letters)
