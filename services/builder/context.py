"""Everything that one builder process holds open, and the one place where it is wired."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.builder.executors.base import Executor
from services.builder.executors.factory import make_executor
from services.builder.images import ImageLookup
from services.builder.queue.admission import Admission
from services.builder.queue.attempts import Attempts
from services.builder.queue.builds import Builds
from services.builder.queue.cleanup import Cleanup
from services.builder.queue.dispatch import Dispatcher
from services.builder.queue.leftovers import Leftovers
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext, open_context, service_member
from services.common.records.leases import ServiceMember
from services.common.redis.waiting import wait_for_redis
from services.common.service.health import Health
from services.common.service.start import CannotStart, start_sentence


@dataclass(frozen=True, kw_only=True)
class BuilderContext:
    """The connections and services of one builder process, which is an API process or a worker."""

    common: ProcessContext
    """Redis, records and the rest that every service has."""
    settings: BuilderSettings
    """The builder's settings."""
    member: ServiceMember
    """This process as a member of the builder service: its lease, and the records that it owns."""
    executor: Executor
    """The platform that runs the builds."""
    images: ImageLookup
    """The lookup of finished images, in the store of this installation."""
    attempts: Attempts
    """The attempts at images."""
    builds: Builds
    """Builds as the API shows them."""
    dispatcher: Dispatcher
    """The queue of jobs from admission to the workers."""
    admission: Admission
    """The movement of builds from the queue to the workers."""
    cleanup: Cleanup
    """The upkeep of queue, logs and executions."""


@contextlib.asynccontextmanager
async def open_builder_context(settings: BuilderSettings, health: Health) -> AsyncIterator[BuilderContext]:
    """Open Redis, the executor and the lookup of images until the exit. The caller starts the member."""
    async with open_context(settings, health) as common:
        try:
            executor, images = make_executor(settings)
        except ValueError as error:
            raise CannotStart(start_sentence(error) or str(error)) from error
        attempts = Attempts(common, settings, executor)
        await wait_for_redis(attempts.scripts.load, settings)

        health.add("Images", images.health_problem)
        health.add("Executor", executor.health_problem)

        builds = Builds(context=common, settings=settings, attempts=attempts, images=images)
        dispatcher = Dispatcher(common, attempts.scripts)
        admission = Admission(
            context=common,
            settings=settings,
            attempts=attempts,
            builds=builds,
            dispatcher=dispatcher,
        )
        cleanup = Cleanup(
            context=common,
            settings=settings,
            attempts=attempts,
            builds=builds,
            dispatcher=dispatcher,
            leftovers=Leftovers(context=common, settings=settings, attempts=attempts, executor=executor),
        )

        try:
            async with service_member(common, "builder") as member:
                yield BuilderContext(
                    common=common,
                    settings=settings,
                    member=member,
                    executor=executor,
                    images=images,
                    attempts=attempts,
                    builds=builds,
                    dispatcher=dispatcher,
                    admission=admission,
                    cleanup=cleanup,
                )
        finally:
            await executor.aclose()
            await images.aclose()
