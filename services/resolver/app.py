"""The resolver as an application."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.git.versions import git_version, git_warning
from services.common.net.proxy import PROXY, environment_proxy
from services.common.records.launch_cache import LaunchCache
from services.common.redis.client import REDIS_UNAVAILABLE, connect
from services.common.redis.keys import Keys
from services.common.redis.rights import warn_if_shared
from services.common.service.logging import get_logger
from services.common.web.app import create_service
from services.resolver.providers import load_providers
from services.resolver.resolver import Resolving
from services.resolver.routes import router
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)


def create_app(settings: ResolverSettings) -> FastAPI:
    """The resolver. Starting it raises `RuntimeError` where git is missing or too old."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(git_version)
        if warning := git_warning():
            log.warning("git_is_old", detail=warning)
        if settings.proxy is None and (variable := environment_proxy(os.environ)):
            log.warning("proxy_of_environment_not_used", variable=variable, setting=PROXY)
        providers = load_providers(settings)
        redis = connect(settings)
        warn_if_shared(redis)
        facts = LaunchCache(
            redis,
            Keys(settings.key_prefix),
            ttl_seconds=settings.fact_ttl_seconds,
            tombstone_seconds=settings.fact_tombstone_seconds,
        )
        app.state.providers = providers
        app.state.resolving = resolving = Resolving(settings, providers, facts)
        with contextlib.suppress(*REDIS_UNAVAILABLE):  # else the first fact that is written says it
            await facts.set_policy(resolving.policy)
        try:
            yield
        finally:
            for provider in providers.values():
                await provider.aclose()
            await redis.aclose()

    return create_service(settings, name="resolver", lifespan=lifespan, routers=[router])
