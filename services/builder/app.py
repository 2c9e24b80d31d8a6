"""The builder's API."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.builder.context import open_builder
from services.builder.executors.image_place import image_place
from services.builder.routes import router
from services.builder.settings import BuilderSettings
from services.common.context import background_tasks, queue_positions_updated, stage_member
from services.common.redis.client import retry_while_unavailable
from services.common.service.health import Health
from services.common.web.app import create_service


def create_app(settings: BuilderSettings) -> FastAPI:
    """The application; its lifespan opens Redis and the executor, and takes part in admission."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_builder(settings, health) as parts,
            queue_positions_updated(parts.context),
            stage_member(parts.context, "builder") as member,
            background_tasks(parts.admission.admit_when_moved(member)),
        ):

            def heard(message: bytes) -> None:
                parts.admission.heard(message)
                member.wake()

            facts, place = parts.context.launch_cache, image_place(settings)
            await retry_while_unavailable(lambda: facts.set_image_place(place), seconds=settings.redis_patience_seconds)
            await parts.context.bus.listen(parts.context.keys.wake("builder"), heard)
            await member.start(on_sweep=parts.admission.sweep)
            health.add("Workers", parts.admission.trouble)
            app.state.builds = parts.builds
            yield

    return create_service(settings, name="builder", lifespan=lifespan, routers=[router], health=health)
