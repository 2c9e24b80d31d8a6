"""The application of a builder worker: its probes and metrics, and the work of its process."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.builder.context import open_builder_context
from services.builder.settings import BuilderSettings
from services.builder.worker.worker import BuilderWorker
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.waiting import wait_for_redis
from services.common.service.health import Health
from services.common.service.logging import get_logger
from services.common.service.loops import background_tasks
from services.common.web.app import create_service

log = get_logger(__name__)

CANCEL_AGAIN_SECONDS = 0.2
"""arq swallows a cancel now and then, and other workers wait for the builds of this one."""


def create_app(settings: BuilderSettings) -> FastAPI:
    """Return the application; its lifespan supervises builds, and hands them over at its end: they go on."""
    health = Health()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with open_builder_context(settings, health) as context:
            common = context.common
            worker = BuilderWorker(context)
            health.add("Pushes", worker.pushes.health_problem)
            await context.executor.prepare()
            await wait_for_redis(
                lambda: context.member.start(on_sweep=context.admission.sweep, on_lease=worker.offer_slots), settings
            )
            await common.bus.listen(common.keys.wake("builder"), worker.on_message)

            try:
                async with background_tasks(
                    worker.run_arq(),
                    worker.cancel_requests.poll(),
                    context.admission.admit_on_change(context.member),
                    context.cleanup.run(context.member),
                    again_seconds=CANCEL_AGAIN_SECONDS,
                ):
                    yield
                    log.info("handing_over", builds=worker.running_count)
            finally:
                with contextlib.suppress(*REDIS_UNAVAILABLE):  # without its lease, a process offers no slots
                    await common.redis.hdel(common.keys("slots"), context.member.process)

    return create_service(settings, name="builder worker", lifespan=lifespan, health=health)
