"""The launcher's application."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.service.health import Health
from services.common.service.loops import background_tasks
from services.common.web.app import create_service
from services.launcher.context import LauncherContext, open_launcher_context
from services.launcher.routes import router
from services.launcher.seats.metrics import seat_metrics
from services.launcher.settings import LauncherSettings


def create_app(settings: LauncherSettings) -> FastAPI:
    """Return the application; its lifespan opens the launcher's context and runs the reaper."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_launcher_context(settings, health) as context, background_tasks(context.reaper.run()):
            app.state.context = context
            yield

    async def read_metrics(context: LauncherContext) -> bytes:
        return await seat_metrics(context.seats, timeout_seconds=settings.metrics_read_seconds)

    return create_service(
        settings, name="launcher", lifespan=lifespan, routers=[router], health=health, read_metrics=read_metrics
    )
