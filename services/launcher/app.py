"""The launcher's API."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.context import background_tasks, open_context, stage_member
from services.common.redis.client import retry_while_unavailable
from services.common.service.health import Health
from services.common.web.app import create_service
from services.launcher.cleanup.reaper import Reaper
from services.launcher.hub.client import Hub
from services.launcher.routes import router
from services.launcher.seats.recount import Recount
from services.launcher.seats.seats import Seats
from services.launcher.servers import Servers
from services.launcher.settings import LauncherSettings


def create_app(settings: LauncherSettings) -> FastAPI:
    """The application; its lifespan opens Redis and the hub client, adopts orphaned starts and reaps."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_context(settings, health) as context:
            hub = Hub(settings)
            try:
                seats = Seats(context, settings)
                await retry_while_unavailable(seats.scripts.load, seconds=settings.redis_patience_seconds)
                health.add("JupyterHub API", hub.healthy)
                if settings.hub_checks_proxy:
                    health.add("JupyterHub proxy", hub.reached_through_proxy)
                async with stage_member(context, "launcher") as member:
                    servers = Servers(context, member, settings, hub, seats)
                    reaper = Reaper(context, settings, hub, seats, servers)
                    recount = Recount(context, settings, hub, seats)
                    app.state.servers = servers
                    await context.bus.listen(context.keys.wake("launcher"), servers.heard)
                    await member.start(on_adopt=servers.adopt)
                    async with background_tasks(
                        servers.cancels.watch(), seats.run(), servers.spawns.run(), recount.run(), reaper.run(member)
                    ):  # fmt: skip
                        yield
            finally:
                await hub.aclose()

    return create_service(settings, name="launcher", lifespan=lifespan, routers=[router], health=health)
