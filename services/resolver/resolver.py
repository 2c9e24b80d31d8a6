"""Resolving a link: is it allowed, who knows it, and one question upstream for all who ask at once."""

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from prometheus_client import Counter, Histogram
from redis.exceptions import RedisError

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.records.launch_cache import LaunchCache
from services.common.service.logging import get_logger
from services.common.service.single_flight import SingleFlight
from services.resolver.providers.base import Provider
from services.resolver.repository_names import names_of
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)

RESOLVED = Counter(
    "bindery_resolved_total", "Links resolved, by provider and outcome (an error code, or ok)", ["provider", "outcome"]
)
RULES = 2
"""The version of our own rules for links: raised with them, so that what earlier ones let through is judged again."""
_JUDGED = {"banned_specs", "allowed_specs", "spec_config"}
_JUDGED |= {"allowed_networks", "refused_networks", "git_allowed_protocols"}
_FACT_SECONDS = 1.0
SECONDS = Histogram("bindery_resolve_seconds", "Time that resolving took upstream, in seconds", ["provider"])


class Resolving:
    """Resolves links by `providers`, under the bans and the deadline of `settings`."""

    def __init__(
        self, settings: ResolverSettings, providers: Mapping[str, Provider], facts: LaunchCache | None = None
    ) -> None:
        self._facts = facts
        self._providers = providers
        self._timeout_seconds = settings.resolve_timeout_seconds
        self._github_url = settings.github_url
        self._banned = _compiled(settings.banned_specs)
        self._allowed = _compiled(settings.allowed_specs)
        self._configs = {
            prefix: [(re.compile(item.pattern, re.IGNORECASE), item.config) for item in items]
            for prefix, items in settings.spec_config.items()
        }
        judged = settings.model_dump(mode="json", include=_JUDGED) | {"rules": RULES}
        self.policy = hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()[:12]
        """Names all that links are judged by: rules and settings that are in force."""
        self._flights: SingleFlight[ResolvedRepo] = SingleFlight()

    async def resolve(self, spec: Spec) -> ResolvedRepo:
        """What `spec` means now.

        Raises `BinderyError`: `unknown_provider`, `banned`, and what `Provider.resolve` raises;
        `provider_unavailable` when it takes too long.
        """
        spec = spec.updated(spec=spec.spec.rstrip("/"))
        provider = self._providers.get(spec.provider)
        if provider is None:
            raise BinderyError("unknown_provider", f"No provider found for prefix {spec.provider}.")
        outcome = "error"
        try:
            for name in (spec, *provider.also_known_as(spec.spec)):
                self._check_bans(name, spec)
            self._check_allowed(provider.allowed_as(spec.spec), spec)
            repo = await self._flights.run(str(spec), lambda: self._ask(provider, spec))
            outcome = "ok"
        except BinderyError as error:
            outcome = error.code
            log.info("not_resolved", spec=unquote(str(spec)), code=error.code, detail=unquote(error.detail))
            raise
        finally:
            RESOLVED.labels(spec.provider, outcome).inc()
        return repo

    async def _ask(self, provider: Provider, spec: Spec) -> ResolvedRepo:
        with SECONDS.labels(provider.prefix).time():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    repo = await provider.resolve(spec.spec)
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Resolving {spec} took over {self._timeout_seconds:g} s."
                ) from error
        resolved = Spec(provider=spec.provider, spec=repo.resolved_spec)
        names = [resolved, *provider.also_known_as(repo.resolved_spec)]
        if repo.reached_url:
            reached = names_of(repo.reached_url, repo.ref, self._github_url)
            names += reached
            self._check_allowed([name for name in reached if name.provider in {spec.provider, "gh"}], spec)
        for name in names:
            self._check_bans(name, spec)
        repo = self._configured(repo, (spec, *provider.also_known_as(spec.spec), resolved))
        await self._keep(repo)
        return repo

    def _configured(self, repo: ResolvedRepo, names: Iterable[Spec]) -> ResolvedRepo:
        """`repo` with what is configured for it under any of its names, as BinderHub's `spec_config` is merged."""
        known = list(dict.fromkeys(names))
        for prefix in ("*", *dict.fromkeys(name.provider for name in known)):
            for pattern, config in self._configs.get(prefix, []):
                if any(pattern.match(name.spec) for name in known if prefix in {"*", name.provider}):
                    repo = repo.updated(**config.model_dump(exclude_none=True))
        return repo

    async def _keep(self, repo: ResolvedRepo) -> None:
        """Tell the next launch, if it is true for ever. A Redis that is away costs only that."""
        if self._facts is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_FACT_SECONDS):
                    await self._facts.store_repo(repo, self.policy)

    def _check_allowed(self, names: Sequence[Spec], typed: Spec) -> None:
        """Where there are allowances for the provider of any of the names, one of the names must be allowed."""
        judged = [(pattern, name.spec) for name in names for pattern in _of(self._allowed, name.provider)]
        if judged and not any(pattern.match(text) for pattern, text in judged):
            raise BinderyError("banned", f"Sorry, {typed} is not allowed to launch here.")

    def _check_bans(self, known_as: Spec, typed: Spec) -> None:
        if any(pattern.match(known_as.spec) for pattern in _of(self._banned, known_as.provider)):
            raise BinderyError("banned", f"Sorry, {typed} is not allowed to launch here.")


def _compiled(patterns: Mapping[str, list[str]]) -> dict[str, list[re.Pattern[str]]]:
    """As BinderHub does: matched from the start, upper and lower case alike. Raises `re.error` for a bad one."""
    return {prefix: [re.compile(text, re.IGNORECASE) for text in texts] for prefix, texts in patterns.items()}


def _of(patterns: dict[str, list[re.Pattern[str]]], prefix: str) -> list[re.Pattern[str]]:
    return [*patterns.get(prefix, []), *patterns.get("*", [])]
