"""The rules of the settings: which links are banned or allowed, and the configuration of their launches.

A repository has many links. A rule about one holds for all of them, and for the repository that a redirect leads to.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.resolver.archive_settings import ADDRESSES_OF_DOIS
from services.resolver.providers.base import Provider, Resolved
from services.resolver.repository_names import links_to
from services.resolver.settings import ResolverSettings

RULES_VERSION = 3
"""Version of our own rules for links: raised with them, so that cached links are checked against the new ones."""
_POLICY_SETTINGS = {
    "banned_specs",
    "allowed_specs",
    "spec_config",
    "allowed_networks",
    "refused_networks",
    "git_allowed_protocols",
    "github_url",  # the same link leads to another host
    "gist_url",
    "allow_secret_gist",
    "gitlabs",
    "giteas",
    "bitbucket_url",
    *ADDRESSES_OF_DOIS,
}
"""Settings that decide about links."""

Patterns = dict[str, list[re.Pattern[str]]]
"""Regular expressions by provider prefix, or `*` for all."""


class Rules:
    """Decides about links of `providers`. As BinderHub's, patterns match from the start of a spec, in either case."""

    def __init__(self, settings: ResolverSettings, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._github_url = settings.github_url
        self._banned = _compile(settings.banned_specs)
        self._allowed = _compile(settings.allowed_specs)
        self._configs = {
            prefix: [(re.compile(item.pattern, re.IGNORECASE), item.config) for item in items]
            for prefix, items in settings.spec_config.items()
        }
        policy = settings.model_dump(mode="json", include=_POLICY_SETTINGS) | {"rules": RULES_VERSION}
        self.id = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:12]
        """12 hex digits that differ whenever a rule does: a cached link of other rules is not used."""

    def check(self, provider: Provider, spec: Spec) -> None:
        """Raise `BinderyError("banned")` if a link is banned under any of its names, or none of them is allowed."""
        for link in self._names(provider, spec):
            self._check_bans(link, spec)
        self._check_allowed(provider.allowed_as(spec.spec), spec)

    def check_reached(self, provider: Provider, spec: Spec, found: Resolved) -> None:
        """Raise `BinderyError("banned")` if a redirect, a rename or a resolved ref led to what is banned."""
        repo = found.repo
        links = self._names(provider, Spec(provider=spec.provider, spec=repo.resolved_spec))
        for link in found.other_links:
            links += self._names(self._providers[link.provider], link)
            self._check_allowed(self._providers[link.provider].allowed_as(link.spec), spec)
        if repo.reached_url:
            reached = self._with_names_by_url(links_to(repo.reached_url, repo.ref, self._github_url))
            links += reached
            self._check_allowed([link for link in reached if link.provider != "git" or spec.provider == "git"], spec)
        for link in links:
            self._check_bans(link, spec)

    def configure(self, provider: Provider, spec: Spec, found: Resolved) -> ResolvedRepo:
        """Return the repository with the configuration of any of its links, merged as BinderHub merges that."""
        repo = found.repo
        resolved = Spec(provider=spec.provider, spec=repo.resolved_spec)
        distinct = list(dict.fromkeys((*self._names(provider, spec), resolved, *found.other_links)))
        for prefix in ("*", *dict.fromkeys(link.provider for link in distinct)):
            candidates = [link for link in distinct if prefix in {"*", link.provider}]
            for pattern, config in self._configs.get(prefix, []):
                if any(pattern.match(link.spec) for link in candidates):
                    repo = repo.updated(**config.model_dump(exclude_none=True))
        return repo

    def _names(self, provider: Provider, spec: Spec) -> list[Spec]:
        """Return a link, and the other links to the same repository and ref, of whichever provider."""
        return self._with_names_by_url((spec, *provider.also_known_as(spec.spec)))

    def _with_names_by_url(self, links: Iterable[Spec]) -> list[Spec]:
        """Return links, and those that other providers have for the URLs among them."""
        found = list(links)
        for link in [link for link in found if link.provider == "git"]:
            quoted_url, _, ref = link.spec.partition("/")
            for prefix, provider in self._providers.items():
                if repository := provider.repository_of(unquote(quoted_url)):
                    found.append(Spec(provider=prefix, spec=f"{repository}/{ref}"))
        return list(dict.fromkeys(found))

    def _check_allowed(self, links: Sequence[Spec], typed_link: Spec) -> None:
        """Raise `BinderyError("banned")` if there are allowances for the links' providers and none of them matches."""
        candidates = [(pattern, link.spec) for link in links for pattern in _for_prefix(self._allowed, link.provider)]
        if candidates and not any(pattern.match(text) for pattern, text in candidates):
            raise BinderyError("banned", f"Sorry, {typed_link} is not allowed to launch here.")

    def _check_bans(self, link: Spec, typed_link: Spec) -> None:
        """Raise `BinderyError("banned")`, which names the link as it was typed, if `link` is banned."""
        if any(pattern.match(link.spec) for pattern in _for_prefix(self._banned, link.provider)):
            raise BinderyError("banned", f"Sorry, {typed_link} is not allowed to launch here.")


def _compile(patterns: Mapping[str, list[str]]) -> Patterns:
    """Compile patterns as BinderHub does: they match from the start, in either case. Raise `re.error`."""
    return {prefix: [re.compile(text, re.IGNORECASE) for text in texts] for prefix, texts in patterns.items()}


def _for_prefix(patterns: Patterns, prefix: str) -> list[re.Pattern[str]]:
    return [*patterns.get(prefix, []), *patterns.get("*", [])]
