"""The resolver's application."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.git.versions import git_version, git_warning
from services.common.net.proxy import PROXY, environment_proxy
from services.common.service.health import Health
from services.common.service.logging import get_logger
from services.common.service.start import CannotStart
from services.common.web.app import create_service
from services.resolver.context import open_resolver_context
from services.resolver.routes import router
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)


def create_app(settings: ResolverSettings) -> FastAPI:
    """Return the application. Starting it raises `CannotStart` if git is missing or too old."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(git_version)
        except RuntimeError as error:
            raise CannotStart(f"The resolver can't start: {error}") from error
        _warn_of_environment(settings)
        async with open_resolver_context(settings, health) as context:
            app.state.context = context
            yield

    return create_service(settings, name="resolver", lifespan=lifespan, routers=[router], health=health)


def _warn_of_environment(settings: ResolverSettings) -> None:
    """Log what an operator may want to change on this machine: an unsafe git, a proxy that is not used."""
    if warning := git_warning():
        log.warning("git_is_old", detail=warning)
    if settings.proxy is None and (variable := environment_proxy(os.environ)):
        log.warning("proxy_of_environment_not_used", variable=variable, setting=PROXY)
