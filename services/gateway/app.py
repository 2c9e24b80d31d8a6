"""The gateway's application."""

import contextlib
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.service.health import Health
from services.common.service.logging import get_logger
from services.common.version import VERSION
from services.common.web.app import create_service
from services.gateway.context import open_gateway_context
from services.gateway.edge.middleware import Edge
from services.gateway.launches.pre_launch import load_hooks
from services.gateway.pages.ended_servers import EndedServers
from services.gateway.pages.error_pages import install_error_pages
from services.gateway.pages.renderer import Pages
from services.gateway.pages.static_assets import StaticAssets
from services.gateway.refusals import RefusalRenderer
from services.gateway.routes import builds, facade, launches, links, pages, policy
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

ROUTERS = [facade.router, launches.router, builds.router, links.router, policy.router, pages.router]


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the application; its lifespan opens the gateway's context."""
    load_hooks()  # a hook that can't be loaded ends the start, not the first launch
    _warn_without_https(settings)

    health = Health()
    renderer = Pages(settings, settings.template_paths, version=VERSION)
    refusals = RefusalRenderer(renderer)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_gateway_context(settings, health=health, pages=renderer) as context:
            app.state.context = context
            yield

    app = create_service(
        settings, name="gateway", lifespan=lifespan, routers=ROUTERS, health=health, public=True,
        fixed={"/versions": _versions()}, body_max_bytes=settings.request_max_bytes, refusal=refusals.not_started,
    )  # fmt: skip

    install_error_pages(app, renderer)
    # The middleware added last is the first that a request meets.
    app.add_middleware(Edge, settings=settings, refusals=refusals)
    app.add_middleware(StaticAssets, reload=settings.dev_mode)
    app.add_middleware(EndedServers, pages=renderer)
    return app


def _versions() -> bytes:
    """Return the body of `/versions`, in BinderHub's shape."""
    return json.dumps({"builder_info": {}, "binderhub": VERSION}).encode()


def _warn_without_https(settings: GatewaySettings) -> None:
    if not settings.local_mode and settings.public_url.lower().startswith("http://"):
        log.warning("no_https", public_url=settings.public_url, so="browsers don't say which site asks for a launch")
