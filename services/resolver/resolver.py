"""Resolving a link: check that it is allowed, find its provider, and send one request for all concurrent callers."""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import quote, unquote

from prometheus_client import Counter, Histogram
from redis.asyncio.client import Pipeline

from services.common.models import GitCredential, RefQuestion, ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.models.policy import LinkToCheck, Verdict
from services.common.records.launch_cache import LaunchCache
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.single_flight import SingleFlight
from services.resolver.answers import Answer, Answers
from services.resolver.commit_owners import CommitOwners
from services.resolver.policy.live import LivePolicy
from services.resolver.policy.rules import Banned, Rules
from services.resolver.providers.base import Provider, Resolved, checked_ref
from services.resolver.repository_wishes import RepositoryWishes
from services.resolver.settings import ResolverSettings
from services.resolver.shared_flights import SharedFlights

log = get_logger(__name__)

RESOLVED = Counter(
    "bindery_resolved_total", "Links resolved, by provider and outcome (an error code, or ok)", ["provider", "outcome"]
)
RESOLVE_SECONDS = Histogram("bindery_resolve_seconds", "Time that resolving took upstream, in seconds", ["provider"])


class _RulesChanged(Exception):
    """Other rules than those under which a link is being resolved are in force."""


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


class Resolver:
    """Resolves links by `providers`, under the bans, allowances and deadline of `settings`."""

    def __init__(
        self,
        settings: ResolverSettings,
        providers: Mapping[str, Provider],
        *,
        policy: LivePolicy | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.policy = policy or LivePolicy(settings, providers)
        """The bans and allowances that decide about links."""
        self._providers = providers
        self._wishes = RepositoryWishes(providers)
        self._owners = CommitOwners(providers, always_asks=settings.check_commits)
        self._shared = shared
        self._timeout_seconds = settings.resolve_timeout_seconds
        self._flights: SingleFlight[ResolvedRepo] = SingleFlight()
        self._questions: SingleFlight[tuple[str, ...]] = SingleFlight()

    async def resolve(self, spec: Spec, login: GitCredential | None = None) -> ResolvedRepo:
        """Return the repository and commit that `spec` means now.

        With a login, it is asked on behalf of its holder: now, even if the answer is known, and it is kept for nobody.

        Raise `BinderyError`: `unknown_provider`, `banned`, `provider_unavailable` if it takes too long, and whatever
        `Provider.on_behalf_of` and `Provider.resolve` raise.
        """
        spec = spec.updated(spec=spec.spec.rstrip("/"))
        provider = self._providers.get(spec.provider)
        if provider is None:
            raise BinderyError("unknown_provider", f"No provider found for prefix {spec.provider}.")

        outcome = "error"
        try:
            repo = await self._resolve_under_rules(provider, spec, login)
            outcome = "ok"
        except BinderyError as error:
            outcome = error.code
            log.info("not_resolved", spec=unquote(str(spec)), code=error.code, detail=unquote(error.detail))
            raise
        finally:
            RESOLVED.labels(spec.provider, outcome).inc()
        return repo

    async def _resolve_under_rules(self, provider: Provider, spec: Spec, login: GitCredential | None) -> ResolvedRepo:
        """Resolve under rules that have not changed by the end: a ban holds for a link that is under way, too."""
        if login:  # no answer is looked for in Redis, which would tell the rules in force
            await self.policy.refresh()
        while True:
            rules = self.policy.rules
            rules.check(provider, spec)
            work = partial(self._resolve_once, provider, spec, rules)
            with contextlib.suppress(_RulesChanged):
                if login:
                    repo = (await self._ask(provider.on_behalf_of(login), spec, rules)).repo
                else:
                    repo = await self._flights.run(f"{rules.id} {spec}", work)
                if rules.id == self.policy.rules.id:
                    return repo

    async def explain(self, spec: Spec) -> Verdict:
        """Return what the rules say of a link, and of the repository that it leads to, if that can be found out."""
        rules = self.policy.rules
        verdict = rules.verdict(LinkToCheck(spec=spec))
        if verdict.refusal:
            return verdict
        try:
            repo = await self.resolve(spec)
        except Banned as banned:
            return Verdict(refusal=banned.detail, rule=banned.rule, matches=(banned.rule,) if banned.rule else ())
        except BinderyError as error:
            return Verdict(refusal=error.detail, matches=verdict.matches) if error.has_code("banned") else verdict
        return rules.verdict(LinkToCheck(spec=spec, repo=repo))

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
        self.policy.rules.check(provider, link)

        async def ask() -> tuple[str, ...]:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await provider.existing_refs(question.repository, refs)
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Listing the branches took over {self._timeout_seconds:g} s."
                ) from error

        return await self._questions.run(question.model_dump_json(), ask)

    async def _resolve_once(self, provider: Provider, spec: Spec, rules: Rules) -> ResolvedRepo:
        """Return what is known of `spec`, or what the provider says, which all replicas share.

        Raise `_RulesChanged` if other rules are in force by now.
        """
        if (shared := self._shared) is None:
            return (await self._ask(provider, spec, rules)).repo

        began_at = clock.now()
        identity = f"{rules.id}\0{provider.credentials_id}\0{spec}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        known, rules_in_force = await shared.answers.read_with_policy(name)
        if rules_in_force is not None and rules_in_force != rules.id:
            await self.policy.refresh()
            if self.policy.rules.id != rules.id:
                raise _RulesChanged
        if known and shared.answers.holds(known):
            return known.result()

        async def work() -> Resolved:
            # Another replica may have found it out between our two questions to Redis.
            latest = await shared.answers.read(name)
            if latest and (shared.answers.holds(latest) or latest.asked_at >= began_at):
                return Resolved(latest.result(), latest.validator)
            return await self._ask(provider, spec, rules, latest)

        try:
            return await shared.flights.run(name, work, partial(shared.store, name=name, policy=rules.id))
        except BinderyError as error:
            if known and (repo := shared.answers.stand_in(known, error)):
                return repo
            raise

    async def _ask(self, provider: Provider, spec: Spec, rules: Rules, known: Answer | None = None) -> Resolved:
        """Have the provider resolve `spec`, then check and configure what it leads to."""
        with RESOLVE_SECONDS.labels(provider.prefix).time():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    found = await provider.ask(spec.spec, known.validator if known and known.repo else "")
                    if found:
                        return await self._checked(provider, spec, found, rules)
            except TimeoutError as error:
                raise BinderyError(
                    "provider_unavailable", f"Resolving {spec} took over {self._timeout_seconds:g} s."
                ) from error

        if known and known.repo:
            return Resolved(known.repo, known.validator)  # it was checked then, under these same rules
        raise BinderyError("internal", f"{provider.name} says of what was never asked that it has not changed.")

    async def _checked(self, provider: Provider, spec: Spec, found: Resolved, rules: Rules) -> Resolved:
        """Return what a link leads to, with its configuration. Raise `BinderyError("banned")`."""
        rules.check_reached(provider, spec, found)
        is_trusted = rules.trust(provider, spec, found)
        marked = await self._owners.marked(provider, spec, found.repo, is_trusted=is_trusted)
        configured = rules.configure(provider, spec, replace(found, repo=marked))
        return replace(found, repo=await self._wishes.granted(provider, configured))


def _can_be_a_ref(text: str) -> bool:
    try:
        return bool(checked_ref(text, text, is_option_allowed=True))
    except BinderyError:
        return False
