"""The life of a worker process: its activities run until one ends or a signal comes; then it hands its builds over."""

import asyncio
import signal
from collections.abc import Iterable
from typing import Any

from services.builder.context import open_builder_context
from services.builder.settings import BuilderSettings
from services.builder.worker.worker import BuilderWorker
from services.common.service.health import Health
from services.common.service.logging import get_logger
from services.common.service.loops import background_state
from services.common.service.tasks import cancel_and_wait
from services.common.web.app import create_service
from services.common.web.listening import open_listeners
from services.common.web.serve import serving

log = get_logger(__name__)

NAME = "builder worker"

CANCEL_AGAIN_SECONDS = 0.2
"""arq swallows a cancel now and then, and other workers wait for the builds of this one."""


async def run(settings: BuilderSettings) -> int:
    """Run a worker until SIGTERM or SIGINT; then its builds are handed over at once, and go on.

    Return the exit status: 0 after a signal, 1 if an activity of the worker ended by itself.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    health = Health()
    app = create_service(settings, name=NAME, health=health)
    listeners = open_listeners(settings)
    async with open_builder_context(settings, health) as context:
        common = context.common
        worker = BuilderWorker(context)
        await context.member.start(on_sweep=context.admission.sweep, on_lease=worker.offer_slots)
        await common.bus.listen(common.keys.wake("builder"), worker.on_message)

        async with serving(app, settings, sockets=listeners) as server:
            activities = {
                "jobs": worker.run_arq(),
                "cancels": worker.cancel_requests.poll(),
                "admission": context.admission.admit_on_change(context.member),
                "cleanup": context.cleanup.run(context.member),
                "stop": stop.wait(),
                "background": background_state().ended.wait(),
            }
            tasks = [asyncio.create_task(work, name=name) for name, work in activities.items()]
            # Not `run_until`: whichever of them ends first ends the worker.
            finished, _ = await asyncio.wait([server, *tasks], return_when=asyncio.FIRST_COMPLETED)

            status = 0 if stop.is_set() else 1
            if status:
                _log_unexpected_ends(finished)
            log.info("handing_over", builds=worker.running_count)
            await cancel_and_wait(*tasks, again_seconds=CANCEL_AGAIN_SECONDS)

        await common.redis.hdel(common.keys("slots"), context.member.process)
    return status


def _log_unexpected_ends(finished: Iterable[asyncio.Task[Any]]) -> None:
    """Log each activity of the worker that ended by itself."""
    for task in finished:
        error = None if task.cancelled() else task.exception()
        log.error("part_ended", part=task.get_name(), error=str(error), exc_info=error)
