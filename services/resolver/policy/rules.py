"""The rules: which links are banned or allowed, and the configuration of their launches.

Those of the settings come first, then the live ones, which operators change. A repository has many links. A rule about
one holds for all of them, and for the repository that a redirect leads to.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from cachetools import LRUCache

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.models.policy import LinkToCheck, PolicyDocument, PolicyRule, RuleKind, Verdict
from services.common.service.clock import clock
from services.resolver.archive_settings import ADDRESSES_OF_DOIS
from services.resolver.policy.patterns import compiled
from services.resolver.providers.base import Provider, Resolved
from services.resolver.repository_names import links_to
from services.resolver.repository_wishes import GRANTED
from services.resolver.settings import RepoConfig, ResolverSettings

RULES_VERSION = 3
"""Version of our own rules for links: raised with them, so that cached links are checked against the new ones."""
KNOWN_NAMES = 512
"""How many links are kept whose other names are known: a link in use is asked about again and again."""
OF_SETTINGS = "settings"
"""Origin of a rule that operators can't change live."""
_POLICY_SETTINGS = {
    "banned_specs",
    "allowed_specs",
    "spec_config",
    "high_quota_specs",
    "per_repo_quota_higher",
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


class Banned(BinderyError):
    """A link may not be launched: `rule` bans it, or, if that is None, no allowance matches it."""

    def __init__(self, link: Spec, rule: PolicyRule | None = None) -> None:
        reason = f" {rule.reason}" if rule and rule.reason else ""
        super().__init__("banned", f"Sorry, {link} is not allowed to launch here.{reason}")
        self.rule = rule


@dataclass(frozen=True)
class _Compiled:
    """A rule, and its pattern as BinderHub compiles it."""

    rule: PolicyRule
    pattern: re.Pattern[str]

    def matches(self, link: Spec) -> bool:
        """Return whether the rule is about a link."""
        return self.rule.provider in {"*", link.provider} and bool(self.pattern.match(link.spec))


class Rules:
    """Decides about links of `providers`. As BinderHub's, patterns match from the start of a spec, in either case."""

    def __init__(
        self, settings: ResolverSettings, providers: Mapping[str, Provider], live: PolicyDocument | None = None
    ) -> None:
        live = live or PolicyDocument()
        now = clock.now()
        self._providers = providers
        self._known_names: MutableMapping[Spec, list[Spec]] = LRUCache(KNOWN_NAMES)
        self._github_url = settings.github_url
        self._high_quota = settings.per_repo_quota_higher
        self.all = (*rules_of_settings(settings), *live.rules)
        """Every rule, also those that have expired, in the order in which they count."""
        in_force = [rule for rule in self.all if rule.expires_at is None or rule.expires_at > now]
        self._rules = [_Compiled(rule, compiled(rule.pattern)) for rule in in_force]
        self._by_kind = {kind: [each for each in self._rules if each.rule.kind is kind] for kind in RuleKind}
        self._closed = {rule.provider for rule in self.all if rule.kind is RuleKind.ALLOW}
        """Prefixes that have allowances: an expired one allows nothing more, and what it closed stays closed."""
        self.valid_until = min((rule.expires_at for rule in in_force if rule.expires_at), default=math.inf)
        """Unix time at which one of the rules expires."""
        self.version = live.version
        """Version of the live rules."""
        self.id = f"{live.version}.{self._digest(settings, in_force)}"
        """Differs whenever a rule does: a cached link of other rules is not used."""

    def _digest(self, settings: ResolverSettings, in_force: Iterable[PolicyRule]) -> str:
        policy = settings.model_dump(mode="json", include=_POLICY_SETTINGS) | {
            "rules": RULES_VERSION,
            "live": [rule.model_dump(mode="json") for rule in in_force if not rule.origin],
            "closed": sorted(self._closed),
        }
        return hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:12]

    def check(self, provider: Provider, spec: Spec) -> None:
        """Raise `Banned` if a link is banned under any of its names, or none of them is allowed."""
        self._check_bans(self._names(provider, spec), spec)
        self._check_allowed(provider.allowed_as(spec.spec), spec)

    def check_reached(self, provider: Provider, spec: Spec, found: Resolved) -> None:
        """Raise `Banned` if a redirect, a rename or a resolved ref led to what is banned."""
        repo = found.repo
        links = self._names(provider, Spec(provider=spec.provider, spec=repo.resolved_spec))
        for link in found.other_links:
            links += self._names(self._providers[link.provider], link)
            self._check_allowed(self._providers[link.provider].allowed_as(link.spec), spec)
        if repo.reached_url:
            reached = self._with_names_by_url(links_to(repo.reached_url, repo.ref, self._github_url))
            links += reached
            self._check_allowed([link for link in reached if link.provider != "git" or spec.provider == "git"], spec)
        self._check_bans(links, spec)

    def trust(self, provider: Provider, spec: Spec, found: Resolved) -> bool:
        """Return whether a rule lets a repository do, by its name, what others may not: then it matters whose it is.

        A pattern that matches an empty text matches every link, whatever its name.
        """
        links = [*self._names(provider, spec), *found.other_links]
        named = [each for each in self._rules if each.rule.kind is not RuleKind.BAN and not each.pattern.match("")]
        return any(each.matches(link) for each in named for link in links)

    def configure(self, provider: Provider, spec: Spec, found: Resolved) -> ResolvedRepo:
        """Return the repository with the configuration of any of its links, merged as BinderHub merges that."""
        repo = found.repo
        resolved = Spec(provider=spec.provider, spec=repo.resolved_spec)
        distinct = list(dict.fromkeys((*self._names(provider, spec), resolved, *found.other_links)))
        if self._matching(distinct, RuleKind.HIGH_QUOTA):
            repo = repo.updated(quota=self._high_quota)

        matching = self._matching(distinct, RuleKind.CONFIG)
        prefixes = ("*", *dict.fromkeys(link.provider for link in distinct))
        for rule in sorted(matching, key=lambda rule: (not rule.origin, prefixes.index(rule.provider))):
            config = RepoConfig.model_validate(rule.config)
            extra = (config.model_extra or {}) | config.model_dump(include={GRANTED}, exclude_none=True)
            repo = repo.updated(**config.model_dump(include={"quota", "resource_class"}, exclude_none=True))
            repo = repo.updated(config={**repo.config, **extra}) if extra else repo
        return repo

    def verdict(self, link: LinkToCheck) -> Verdict:
        """Return what the rules say of a link, and, if it was resolved, of the repository that it led to."""
        spec = link.spec
        provider = self._providers.get(spec.provider)
        if provider is None:
            return Verdict()

        names: list[Spec] = []
        refusal: Banned | None = None
        try:
            names = self._names(provider, spec)
            if repo := link.repo:
                names += self._names(provider, Spec(provider=spec.provider, spec=repo.resolved_spec))
                names += self._with_names_by_url(links_to(repo.repo_url, repo.ref, self._github_url))
                self._check_bans(names, spec)
                self.check_reached(provider, spec, Resolved(repo))
            self.check(provider, spec)
        except Banned as banned:
            refusal = banned
        except BinderyError:  # it is malformed, which is no matter of the policy
            return Verdict()
        matches = tuple(each.rule for each in self._rules if any(each.matches(name) for name in names))
        if refusal is None:
            return Verdict(matches=matches)
        ends_servers = any(rule.end_servers for rule in matches)
        return Verdict(refusal=refusal.detail, rule=refusal.rule, matches=matches, ends_servers=ends_servers)

    @property
    def end_servers(self) -> bool:
        """Whether there is a ban that ends running servers."""
        return any(each.rule.end_servers for each in self._rules)

    def _names(self, provider: Provider, spec: Spec) -> list[Spec]:
        """Return a link, and the other links to the same repository and ref, of whichever provider."""
        known = self._known_names.get(spec)
        if known is None:
            known = self._with_names_by_url((spec, *provider.also_known_as(spec.spec)))
            self._known_names[spec] = known
        return list(known)

    def _with_names_by_url(self, links: Iterable[Spec]) -> list[Spec]:
        """Return links, and those that other providers have for the URLs among them."""
        found = list(links)
        for link in [link for link in found if link.provider == "git"]:
            quoted_url, _, ref = link.spec.partition("/")
            for prefix, provider in self._providers.items():
                if repository := provider.repository_of(unquote(quoted_url)):
                    found.append(Spec(provider=prefix, spec=f"{repository}/{ref}"))
        return list(dict.fromkeys(found))

    def _matching(self, links: Sequence[Spec], kind: RuleKind) -> list[PolicyRule]:
        """Return the rules of a kind that match any of some links, in the order in which they count."""
        return [each.rule for each in self._by_kind[kind] if any(each.matches(link) for link in links)]

    def _check_allowed(self, links: Sequence[Spec], typed_link: Spec) -> None:
        """Raise `Banned` if there are allowances for the links' providers and none of them matches."""
        is_closed = any(self._closed & {"*", link.provider} for link in links)
        if is_closed and not self._matching(links, RuleKind.ALLOW):
            raise Banned(typed_link)

    def _check_bans(self, links: Sequence[Spec], typed_link: Spec) -> None:
        """Raise `Banned`, which names the link as it was typed, if any of `links` is banned."""
        for rule in self._matching(links, RuleKind.BAN):
            raise Banned(typed_link, rule)


def rules_of_settings(settings: ResolverSettings) -> Iterator[PolicyRule]:
    """Yield the rules of the settings; each is named for the setting that has it."""
    lists = (
        (RuleKind.BAN, "banned_specs", settings.banned_specs),
        (RuleKind.ALLOW, "allowed_specs", settings.allowed_specs),
        (RuleKind.HIGH_QUOTA, "high_quota_specs", settings.high_quota_specs),
    )
    for kind, name, patterns in lists:
        for prefix, texts in patterns.items():
            for text in texts:
                yield PolicyRule(id=name, kind=kind, provider=prefix, pattern=text, origin=OF_SETTINGS)
    for prefix, items in settings.spec_config.items():
        for item in items:
            config = item.config.model_dump(exclude_none=True)
            yield PolicyRule(
                id="spec_config", kind=RuleKind.CONFIG, provider=prefix, pattern=item.pattern, config=config,
                origin=OF_SETTINGS,
            )  # fmt: skip
