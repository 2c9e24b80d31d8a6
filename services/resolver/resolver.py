"""Resolving a link: check that it is allowed, find its provider, and send one request for all concurrent callers."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

from prometheus_client import Counter, Histogram
from redis.asyncio.client import Pipeline

from services.common.models import RefQuestion, ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.records.launch_cache import LaunchCache
from services.common.service.logging import get_logger
from services.common.service.single_flight import SingleFlight
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import links_to
from services.resolver.settings import ResolverSettings
from services.resolver.shared_flights import SharedFlights

log = get_logger(__name__)

RESOLVED = Counter(
    "bindery_resolved_total", "Links resolved, by provider and outcome (an error code, or ok)", ["provider", "outcome"]
)
RESOLVE_SECONDS = Histogram("bindery_resolve_seconds", "Time that resolving took upstream, in seconds", ["provider"])

RULES_VERSION = 2
"""Version of our own rules for links: raised with them, so that cached links are checked against the new ones."""
_POLICY_SETTINGS = {
    "banned_specs",
    "allowed_specs",
    "spec_config",
    "allowed_networks",
    "refused_networks",
    "git_allowed_protocols",
    "github_url",  # the same link leads to another host
}

Patterns = dict[str, list[re.Pattern[str]]]
"""Regular expressions by provider prefix, or `*` for all."""


class Resolver:
    """Resolves links by `providers`, under the bans, allowances and deadline of `settings`."""

    def __init__(
        self,
        settings: ResolverSettings,
        providers: Mapping[str, Provider],
        *,
        launch_cache: LaunchCache | None = None,
        shared_flights: SharedFlights | None = None,
    ) -> None:
        self._providers = providers
        self._launch_cache = launch_cache
        self._shared_flights = shared_flights
        self._timeout_seconds = settings.resolve_timeout_seconds
        self._github_url = settings.github_url

        self._banned = _compile(settings.banned_specs)
        self._allowed = _compile(settings.allowed_specs)
        self._configs = {
            prefix: [(re.compile(item.pattern, re.IGNORECASE), item.config) for item in items]
            for prefix, items in settings.spec_config.items()
        }

        self._flights: SingleFlight[ResolvedRepo] = SingleFlight()
        self._questions: SingleFlight[tuple[str, ...]] = SingleFlight()
        self.policy = _policy_id(settings)
        """Identifies the rules and settings that decide about links: a cached link of another policy is not used."""
        self._credentials = _credentials_id(settings)

    async def resolve(self, spec: Spec) -> ResolvedRepo:
        """Return the repository and commit that `spec` means now.

        Raise `BinderyError`: `unknown_provider`, `banned`, `provider_unavailable` if it takes too long, and whatever
        `Provider.resolve` raises.
        """
        spec = spec.updated(spec=spec.spec.rstrip("/"))
        provider = self._providers.get(spec.provider)
        if provider is None:
            raise BinderyError("unknown_provider", f"No provider found for prefix {spec.provider}.")

        outcome = "error"
        try:
            self._check_policy(provider, spec)
            repo = await self._flights.run(str(spec), lambda: self._resolve_once(provider, spec))
            outcome = "ok"
        except BinderyError as error:
            outcome = error.code
            log.info("not_resolved", spec=unquote(str(spec)), code=error.code, detail=unquote(error.detail))
            raise
        finally:
            RESOLVED.labels(spec.provider, outcome).inc()
        return repo

    async def existing_refs(self, question: RefQuestion) -> tuple[str, ...]:
        """Return those of the question's refs that its repository has, asked of the forge with one request.

        Names that can't be a ref's are left out. Raise `BinderyError`: `unknown_provider`, `banned`,
        `provider_unavailable` if it takes too long, and whatever `Provider.existing_refs` raises.
        """
        provider = self._providers.get(question.provider)
        if provider is None:
            raise BinderyError("unknown_provider", f"No provider found for prefix {question.provider}.")

        refs = [ref for ref in question.refs if _can_be_a_ref(ref)]
        if not refs:
            return ()
        link = Spec(provider=question.provider, spec=f"{question.repository}/{quote(refs[0], safe='/')}")
        self._check_policy(provider, link)

        async def ask() -> tuple[str, ...]:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await provider.existing_refs(question.repository, refs)
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Listing the branches took over {self._timeout_seconds:g} s."
                ) from error

        return await self._questions.run(question.model_dump_json(), ask)

    async def _resolve_once(self, provider: Provider, spec: Spec) -> ResolvedRepo:
        """Resolve `spec` upstream, unless another replica with the same rules and credentials does at the moment."""
        if self._shared_flights is None:
            return await self._resolve_upstream(provider, spec)

        identity = f"{self.policy}\0{self._credentials}\0{spec}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return await self._shared_flights.run(name, lambda: self._resolve_upstream(provider, spec), self._store)

    async def _resolve_upstream(self, provider: Provider, spec: Spec) -> ResolvedRepo:
        """Have the provider resolve `spec`, then check and configure what it leads to."""
        with RESOLVE_SECONDS.labels(provider.prefix).time():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    repo = await provider.resolve(spec.spec)
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Resolving {spec} took over {self._timeout_seconds:g} s."
                ) from error

        # A redirect, a rename or a resolved ref may have led to a repository that is banned under another name.
        resolved_link = Spec(provider=spec.provider, spec=repo.resolved_spec)
        links = [resolved_link, *provider.also_known_as(repo.resolved_spec)]
        if repo.reached_url:
            reached_links = links_to(repo.reached_url, repo.ref, self._github_url)
            links += reached_links
            self._check_allowed([link for link in reached_links if link.provider in {spec.provider, "gh"}], spec)
        for link in links:
            self._check_bans(link, spec)

        return self._configure(repo, (spec, *provider.also_known_as(spec.spec), resolved_link))

    def _configure(self, repo: ResolvedRepo, links: Iterable[Spec]) -> ResolvedRepo:
        """Return `repo` with the configuration of any of its links, merged as BinderHub merges `spec_config`."""
        distinct = list(dict.fromkeys(links))
        for prefix in ("*", *dict.fromkeys(link.provider for link in distinct)):
            candidates = [link for link in distinct if prefix in {"*", link.provider}]
            for pattern, config in self._configs.get(prefix, []):
                if any(pattern.match(link.spec) for link in candidates):
                    repo = repo.updated(**config.model_dump(exclude_none=True))
        return repo

    def _store(self, pipe: Pipeline, repo: ResolvedRepo) -> None:
        """Store the repository for later launches if its link is immutable, in a round trip that is made anyway."""
        if self._launch_cache is not None:
            self._launch_cache.add_repo(pipe, repo, self.policy)

    def _check_policy(self, provider: Provider, spec: Spec) -> None:
        """Raise `BinderyError("banned")` if a link is banned under any of its names, or none of them is allowed."""
        for link in (spec, *provider.also_known_as(spec.spec)):
            self._check_bans(link, spec)
        self._check_allowed(provider.allowed_as(spec.spec), spec)

    def _check_allowed(self, links: Sequence[Spec], typed_link: Spec) -> None:
        """Raise `BinderyError("banned")` if there are allowances for the links' providers and none of them matches."""
        candidates = [(pattern, link.spec) for link in links for pattern in _for_prefix(self._allowed, link.provider)]
        if candidates and not any(pattern.match(text) for pattern, text in candidates):
            raise BinderyError("banned", f"Sorry, {typed_link} is not allowed to launch here.")

    def _check_bans(self, link: Spec, typed_link: Spec) -> None:
        """Raise `BinderyError("banned")`, which names the link as it was typed, if `link` is banned."""
        if any(pattern.match(link.spec) for pattern in _for_prefix(self._banned, link.provider)):
            raise BinderyError("banned", f"Sorry, {typed_link} is not allowed to launch here.")


def _policy_id(settings: ResolverSettings) -> str:
    """Return 12 hex digits that differ whenever a rule or setting that decides about links does."""
    policy = settings.model_dump(mode="json", include=_POLICY_SETTINGS) | {"rules": RULES_VERSION}
    return hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:12]


def _credentials_id(settings: ResolverSettings) -> str:
    """Return 12 hex digits that differ whenever the credentials do with which upstreams are asked."""
    secrets = [
        settings.github_access_token.get_secret_value(),
        settings.github_client_id,
        settings.github_client_secret.get_secret_value(),
    ]
    return hashlib.sha256(json.dumps(secrets).encode()).hexdigest()[:12]


def _can_be_a_ref(text: str) -> bool:
    try:
        return bool(checked_ref(text, text, is_option_allowed=True))
    except BinderyError:
        return False


def _compile(patterns: Mapping[str, list[str]]) -> Patterns:
    """Compile patterns as BinderHub does: they match from the start, in either case. Raise `re.error`."""
    return {prefix: [re.compile(text, re.IGNORECASE) for text in texts] for prefix, texts in patterns.items()}


def _for_prefix(patterns: Patterns, prefix: str) -> list[re.Pattern[str]]:
    return [*patterns.get(prefix, []), *patterns.get("*", [])]
