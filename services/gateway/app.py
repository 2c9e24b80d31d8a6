"""The gateway."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.context import background_tasks, open_context, queue_positions_updated, stage_member
from services.common.records.leases import StageMember
from services.common.redis.keys import Kind
from services.common.service.health import Health
from services.common.service.logging import get_logger
from services.common.version import VERSION
from services.common.web.app import create_service
from services.gateway.backends import Backends, Providers
from services.gateway.edge.middleware import Edge
from services.gateway.launches.launches import Launches
from services.gateway.launches.pre_launch import load_hooks
from services.gateway.pages.error_pages import install_error_pages
from services.gateway.pages.renderer import Pages
from services.gateway.pages.static_assets import PrebuiltReplies
from services.gateway.routes import builds, facade, launches, pages
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.send_scheduler import SendScheduler
from services.gateway.streaming.stream_responses import StreamResponses

log = get_logger(__name__)


def create_app(settings: GatewaySettings) -> FastAPI:
    """The application; its lifespan opens Redis, adopts orphaned launches and watches the other stages."""
    load_hooks()  # one that can't be loaded ends the start, not the first launch
    if not settings.local_mode and settings.public_url.lower().startswith("http://"):
        log.warning("no_https", public_url=settings.public_url, so="browsers don't say which site asks for a launch")
    health = Health()
    scheduler = SendScheduler(settings)
    exiting = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_context(settings, health, subscribe_all={Kind.SERVER}) as context,
            queue_positions_updated(context),
        ):
            backends = Backends(settings)
            try:
                for name in ("resolver", "builder", "launcher"):
                    health.add(name, lambda name=name: backends.trouble(name))  # type: ignore[misc]
                async with stage_member(context, "gateway") as member:
                    made = Launches(context, member, backends, settings)
                    app.state.context = context
                    app.state.launches = made
                    app.state.backends = backends
                    app.state.providers = Providers(backends)
                    app.state.streams = StreamResponses(
                        context=context, launches=made, settings=settings, scheduler=scheduler
                    )
                    await context.bus.listen(context.keys.wake("gateway"), made.heard)
                    await member.start(on_adopt=made.adopt)
                    leaving = _leave(app.state.exiting, scheduler, member)
                    async with background_tasks(made.cancels.poll(), made.keep_followed_alive(), leaving):
                        yield
            finally:
                await backends.aclose()

    routers = [facade.router, launches.router, builds.router, pages.router]
    versions = json.dumps({"builder_info": {}, "binderhub": VERSION}).encode()
    app = create_service(
        settings, name="gateway", lifespan=lifespan, routers=routers, health=health, public=True,
        fixed={"/versions": versions}, body_max_bytes=settings.request_max_bytes,
    )  # fmt: skip
    app.state.exiting = exiting
    app.state.pages = Pages(settings, settings.template_paths, version=VERSION)
    install_error_pages(app)
    app.add_middleware(Edge, settings=settings)
    app.add_middleware(PrebuiltReplies, reload=settings.dev_mode)
    return app


async def _leave(exiting: asyncio.Event, scheduler: SendScheduler, member: StageMember) -> None:
    """On SIGTERM: v1 streams end, for their clients to resume elsewhere; launches go to another gateway at once."""
    await exiting.wait()
    scheduler.drain()
    await member.hand_over()
