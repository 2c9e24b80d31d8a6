"""The builder's application."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.builder.context import BuilderContext, open_builder_context
from services.builder.executors.image_store import image_store_id
from services.builder.queue.metrics import queue_metrics
from services.builder.routes import router
from services.builder.settings import BuilderSettings
from services.common.context import queue_positions_updated
from services.common.redis.waiting import wait_for_redis
from services.common.service.health import Health
from services.common.service.loops import background_tasks
from services.common.web.app import create_service


def create_app(settings: BuilderSettings) -> FastAPI:
    """Return the application; its lifespan opens the builder's context and takes part in admission."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_builder_context(settings, health) as context,
            queue_positions_updated(context.common),
            background_tasks(context.admission.admit_on_change(context.member), context.cleanup.run(context.member)),
        ):
            common = context.common

            def on_message(message: bytes) -> None:
                context.admission.on_message(message)
                context.member.wake()

            store_id = image_store_id(settings)
            await wait_for_redis(lambda: common.launch_cache.set_image_store_id(store_id), settings)
            await common.bus.listen(common.keys.wake("builder"), on_message)
            await context.member.start(on_sweep=context.admission.sweep)
            health.add("Workers", context.admission.health_problem)
            app.state.context = context
            yield

    async def read_metrics(context: BuilderContext) -> bytes:
        return await queue_metrics(context.builds, timeout_seconds=settings.metrics_read_seconds)

    return create_service(
        settings, name="builder", lifespan=lifespan, routers=[router], health=health, read_metrics=read_metrics
    )
