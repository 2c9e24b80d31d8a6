"""Resolving a link: check that it is allowed, find its provider, and send one request for all concurrent callers."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import quote, unquote

from prometheus_client import Counter, Histogram
from redis.asyncio.client import Pipeline

from services.common.models import RefQuestion, ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.records.launch_cache import LaunchCache
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.single_flight import SingleFlight
from services.resolver.answers import Answer, Answers
from services.resolver.providers.base import Provider, Resolved, checked_ref
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


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What replicas of the resolver share in Redis."""

    answers: Answers
    flights: SharedFlights
    launch_cache: LaunchCache

    def store(self, pipe: Pipeline, answer: Answer, *, name: str, policy: str) -> None:
        """Have a pipeline store an answer: for the next who asks, and for launches if it can't change."""
        self.answers.add(pipe, name, answer)
        if answer.repo:
            self.launch_cache.add_repo(pipe, answer.repo, policy)


Patterns = dict[str, list[re.Pattern[str]]]
"""Regular expressions by provider prefix, or `*` for all."""


class Resolver:
    """Resolves links by `providers`, under the bans, allowances and deadline of `settings`."""

    def __init__(
        self,
        settings: ResolverSettings,
        providers: Mapping[str, Provider],
        *,
        shared: Shared | None = None,
    ) -> None:
        self._providers = providers
        self._shared = shared
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
        """Return what is known of `spec`, or what the provider says, which all replicas share."""
        if (shared := self._shared) is None:
            return (await self._ask(provider, spec)).repo

        began_at = clock.now()
        identity = f"{self.policy}\0{provider.credentials_id}\0{spec}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        known = await shared.answers.read(name)
        if known and shared.answers.holds(known):
            return known.result()

        async def work() -> Resolved:
            # Another replica may have found it out between our two questions to Redis.
            latest = await shared.answers.read(name)
            if latest and (shared.answers.holds(latest) or latest.asked_at >= began_at):
                return Resolved(latest.result(), latest.validator)
            return await self._ask(provider, spec, latest)

        try:
            return await shared.flights.run(name, work, partial(shared.store, name=name, policy=self.policy))
        except BinderyError as error:
            if known and (repo := shared.answers.stand_in(known, error)):
                return repo
            raise

    async def _ask(self, provider: Provider, spec: Spec, known: Answer | None = None) -> Resolved:
        """Have the provider resolve `spec`, then check and configure what it leads to."""
        with RESOLVE_SECONDS.labels(provider.prefix).time():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    found = await provider.ask(spec.spec, known.validator if known and known.repo else "")
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Resolving {spec} took over {self._timeout_seconds:g} s."
                ) from error

        if found is None and known and known.repo:
            return Resolved(known.repo, known.validator)  # it was checked then, under these same rules
        if found is None:
            raise BinderyError("internal", f"{provider.name} says of what was never asked that it has not changed.")
        self._check_reached(provider, spec, found.repo)
        resolved_link = Spec(provider=spec.provider, spec=found.repo.resolved_spec)
        repo = self._configure(found.repo, (spec, *provider.also_known_as(spec.spec), resolved_link))
        return replace(found, repo=repo)

    def _check_reached(self, provider: Provider, spec: Spec, repo: ResolvedRepo) -> None:
        """Raise `BinderyError("banned")` if a redirect, a rename or a resolved ref led to what is banned."""
        links = [Spec(provider=spec.provider, spec=repo.resolved_spec), *provider.also_known_as(repo.resolved_spec)]
        if repo.reached_url:
            reached_links = links_to(repo.reached_url, repo.ref, self._github_url)
            links += reached_links
            self._check_allowed([link for link in reached_links if link.provider in {spec.provider, "gh"}], spec)
        for link in links:
            self._check_bans(link, spec)

    def _configure(self, repo: ResolvedRepo, links: Iterable[Spec]) -> ResolvedRepo:
        """Return `repo` with the configuration of any of its links, merged as BinderHub merges `spec_config`."""
        distinct = list(dict.fromkeys(links))
        for prefix in ("*", *dict.fromkeys(link.provider for link in distinct)):
            candidates = [link for link in distinct if prefix in {"*", link.provider}]
            for pattern, config in self._configs.get(prefix, []):
                if any(pattern.match(link.spec) for link in candidates):
                    repo = repo.updated(**config.model_dump(exclude_none=True))
        return repo

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
