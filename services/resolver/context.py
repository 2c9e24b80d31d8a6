"""Everything that one resolver process holds open, and the one place where it is wired."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from services.common.records.launch_cache import LaunchCache
from services.common.redis.client import connect
from services.common.redis.health import redis_failure
from services.common.redis.keys import Keys
from services.common.redis.rights import Refusals, warn_if_shared
from services.common.service.health import CheckFailure, Health
from services.common.service.loops import background_tasks
from services.resolver.answers import Answers, Lifetimes
from services.resolver.policy.live import LivePolicy, PolicyRedis
from services.resolver.providers import load_providers
from services.resolver.providers.base import Provider
from services.resolver.resolver import Resolver, Shared
from services.resolver.settings import ResolverSettings
from services.resolver.shared_flights import SharedFlights


@dataclass(frozen=True, kw_only=True)
class ResolverContext:
    """The connections and services of one resolver process."""

    settings: ResolverSettings
    """The resolver's settings."""
    providers: Mapping[str, Provider]
    """Every provider by its prefix, in the order in which pages show them."""
    policy: LivePolicy
    """The bans and allowances, which operators change."""
    resolver: Resolver
    """Resolves links by the providers."""


@contextlib.asynccontextmanager
async def open_resolver_context(settings: ResolverSettings, health: Health) -> AsyncIterator[ResolverContext]:
    """Open the providers and Redis, read the policy and make it known to gateways; close all on exit.

    The resolver works without Redis, which only saves requests: for later launches of the same link, and for other
    replicas that are asked about it at the same time. Health says when Redis is away all the same.
    """
    async with contextlib.AsyncExitStack() as stack:
        providers = load_providers(settings)
        refusals = Refusals()
        redis = connect(settings, refusals=refusals)
        subscriber = connect(settings, read_seconds=None, connections=2, refusals=refusals)
        health.add("Redis", lambda: redis_failure(redis, refusals, settings))
        health.add("Forges", lambda: _forge_warning(providers))
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(subscriber.aclose)
        for provider in reversed(providers.values()):
            stack.push_async_callback(provider.aclose)

        warn_if_shared(redis)
        keys = Keys(settings.key_prefix)
        launch_cache = LaunchCache(
            redis,
            keys,
            ttl_seconds=settings.fact_ttl_seconds,
            tombstone_seconds=settings.fact_tombstone_seconds,
        )
        lifetimes = Lifetimes(
            immutable=settings.fact_ttl_seconds,
            missing=settings.not_found_cache_seconds,
            stand_in=settings.stale_answer_seconds,
        )
        shared = Shared(
            answers=Answers(redis, keys, lifetimes),
            flights=SharedFlights(redis, keys, wait_seconds=settings.resolve_share_seconds),
            launch_cache=launch_cache,
        )
        policy = LivePolicy(settings, providers, PolicyRedis(redis=redis, subscriber=subscriber, keys=keys))
        health.add("Policy", policy.store.health_problem)
        await policy.store.open()
        await stack.enter_async_context(background_tasks(policy.run()))

        yield ResolverContext(
            settings=settings,
            providers=providers,
            policy=policy,
            resolver=Resolver(settings, providers, policy=policy, shared=shared),
        )


async def _forge_warning(providers: Mapping[str, Provider]) -> CheckFailure | None:
    """Return what is wrong, or soon will be, at forges: that ends no service, and an operator can add a token."""
    warnings = dict.fromkeys(warning for provider in providers.values() for warning in provider.warnings)
    sentence = " ".join(warnings)
    return CheckFailure(sentence, sentence, is_warning=True) if sentence else None
