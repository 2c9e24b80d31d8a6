"""What a process of the builder stage holds: the executor, the images, the attempts, admission."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.builder.executors.base import Executor
from services.builder.executors.factory import make_executor
from services.builder.images import ImageLookup
from services.builder.queue.admission import Admission
from services.builder.queue.attempts import Attempts
from services.builder.queue.builds import Builds
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext, open_context
from services.common.redis.client import retry_while_unavailable
from services.common.service.health import Health


@dataclass
class BuilderContext:
    """Everything open in one builder process."""

    context: ProcessContext
    executor: Executor
    images: ImageLookup
    attempts: Attempts
    builds: Builds
    admission: Admission


@contextlib.asynccontextmanager
async def open_builder(settings: BuilderSettings, health: Health) -> AsyncIterator[BuilderContext]:
    """Open a builder process's parts until the block ends."""
    async with open_context(settings, health) as context:
        executor, images = make_executor(settings)
        attempts = Attempts(context, settings, executor)
        await retry_while_unavailable(attempts.scripts.load, seconds=settings.redis_patience_seconds)
        builds = Builds(context, settings, attempts, images)
        health.add("Images", images.trouble)
        health.add("Executor", executor.trouble)
        try:
            yield BuilderContext(
                context, executor, images, attempts, builds, Admission(context, settings, attempts, builds, executor)
            )
        finally:
            await executor.aclose()
            await images.aclose()
