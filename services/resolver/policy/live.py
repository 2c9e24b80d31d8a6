"""The rules that count now: those of the settings and the live ones, made anew whenever these change or expire."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from services.common.models.errors import BinderyError
from services.common.models.policy import (
    AuditEntry,
    NewRule,
    PolicyDocument,
    PolicyQuestion,
    PolicyRule,
    PolicyView,
    Verdicts,
)
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.service.clock import clock
from services.common.service.loops import run_forever
from services.common.service.tasks import wait_and_clear
from services.common.streams.subscription import Subscription
from services.resolver.policy.document import EMPTY, rule_id, rule_of, with_rule, without_rule
from services.resolver.policy.rules import Rules
from services.resolver.policy.store import PolicyStore
from services.resolver.providers.base import Provider
from services.resolver.settings import ResolverSettings


@dataclass(frozen=True, kw_only=True)
class PolicyRedis:
    """Redis as the live policy needs it: `subscriber` waits for messages without end."""

    redis: Redis
    subscriber: Redis
    keys: Keys


class LivePolicy:
    """The policy of this resolver. Without Redis there are the rules of the settings alone."""

    def __init__(
        self, settings: ResolverSettings, providers: Mapping[str, Provider], redis: PolicyRedis | None = None
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._redis = redis
        self._is_due = asyncio.Event()
        self._rules = Rules(settings, providers, EMPTY)
        self._rules_are_of: PolicyDocument = EMPTY
        self._store: PolicyStore | None = None
        if redis:
            self._store = PolicyStore(redis.redis, redis.keys, settings, rules_id=lambda live: self._rules_of(live).id)

    @property
    def rules(self) -> Rules:
        """The rules that count now. Raise `BinderyError("resolver_unavailable")` if live ones can't be read."""
        return self._rules_of(self._store.known() if self._store else EMPTY)

    def _rules_of(self, live: PolicyDocument) -> Rules:
        if live is not self._rules_are_of or clock.now() >= self._rules.valid_until:
            self._rules = Rules(self._settings, self._providers, live)
            self._rules_are_of = live
        return self._rules

    @property
    def store(self) -> PolicyStore:
        """The live policy in Redis. Raise `BinderyError("redis_unavailable")` for a resolver without one."""
        if self._store is None:
            raise BinderyError("redis_unavailable")
        return self._store

    async def refresh(self) -> None:
        """Read the live policy again, if Redis answers: another resolver may have changed it."""
        if self._store:
            await self._store.try_to_refresh()

    async def run(self) -> None:
        """Read the live policy whenever it changes, may have changed, or expires in part, until cancelled."""
        if self._redis is None:
            return
        store = self.store
        subscription = Subscription(
            self._redis.subscriber,
            publisher=self._redis.redis,
            keys=self._redis.keys,
            patterns=(),
            heartbeat_seconds=self._settings.heartbeat_seconds,
            on_connect=self._is_due.set,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(subscription.run())
            group.create_task(subscription.add(store.channel.encode(), lambda _version: self._is_due.set()))
            group.create_task(
                run_forever(store.refresh, name="policy", wait=self._until_due, unavailable=REDIS_UNAVAILABLE)
            )

    async def _until_due(self) -> None:
        seconds = min(self._settings.policy_reread_seconds, self._rules.valid_until - clock.now())
        await wait_and_clear(self._is_due, seconds=max(0.0, seconds))

    # For operators

    def view(self) -> PolicyView:
        """Return all rules."""
        rules = self.rules
        return PolicyView(version=rules.version, rules=rules.all)

    async def add(self, new: NewRule) -> tuple[PolicyRule, bool]:
        """Add a live rule: (rule, whether there was none of its kind about these links). Raise `BinderyError`."""
        if new.provider != "*" and new.provider not in self._providers:
            raise BinderyError("bad_request", f"No links here begin with {new.provider}/.")
        before = rule_of(self.store.known(), rule_id(new.kind, new.provider, new.pattern))
        document = await self.store.change(partial(with_rule, new=new, rules_max=self._settings.policy_rules_max))
        rule = rule_of(document, rule_id(new.kind, new.provider, new.pattern))
        if rule is None:
            raise BinderyError("conflict", "The rule was added, and removed by another operator at once.")
        return rule, before is None

    async def remove(self, rule_id: str, *, by: str, reason: str) -> None:
        """Remove a live rule. Raise `BinderyError`: `not_found`, or as `PolicyStore.change`."""
        await self.store.change(partial(without_rule, rule_id=rule_id, by=by, reason=reason))

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Return the last changes of the live policy, newest first."""
        return await self.store.audit(limit)

    async def verdicts(self, question: PolicyQuestion) -> Verdicts:
        """Say of each link whether it may be launched. Raise `BinderyError("resolver_unavailable")` if that is old."""
        if question.version > self.rules.version:
            await self.store.try_to_refresh()
        rules = self.rules
        if question.version > rules.version:
            raise BinderyError("resolver_unavailable", "This resolver does not have the newest policy yet.")
        return Verdicts(
            version=rules.version,
            ends_servers=rules.end_servers,
            verdicts=tuple(rules.verdict(link) for link in question.links),
        )
