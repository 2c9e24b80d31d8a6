"""Executions of attempts that have ended, which a worker that was paused or killed may leave: stopped and removed."""

import asyncio
import random

from services.builder.executors.base import Attempt, Execution, Executor
from services.builder.queue.attempts import Attempts, build_topic
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.service.logging import get_logger
from services.common.service.tasks import run_all

log = get_logger(__name__)

MAX_PARALLEL_STOPS = 8


class Leftovers:
    """The comparison of the executor's list with the records."""

    def __init__(
        self, *, context: ProcessContext, settings: BuilderSettings, attempts: Attempts, executor: Executor
    ) -> None:
        self._redis = context.redis
        self._keys = context.keys
        self._records = context.records
        self._settings = settings
        self._attempts = attempts
        self._executor = executor

    async def stop_if_due(self) -> None:
        """Stop and remove what is left, `relist_seconds` after any process did so the last time.

        A round that fails is due again at once: the loop that calls this paces the retries.
        """
        turn_key = self._keys("builds:relisted")
        turn_ms = int(self._settings.relist_seconds * 1000)
        if not await self._redis.set(turn_key, "1", nx=True, px=turn_ms):
            return
        try:
            await self.stop()
        except Exception:
            await self._redis.delete(turn_key)
            raise

    async def stop(self) -> None:
        """Stop and remove each execution whose attempt has ended, several at once, until the next round is due.

        Raise the last error if some could not be stopped: the others were, all the same.
        """
        seconds = max(self._settings.relist_seconds, self._settings.build_stop_seconds)
        round_end = asyncio.timeout(seconds)
        try:
            async with round_end:
                await self._stop_all()
        except TimeoutError:
            if not round_end.expired():
                raise
            log.warning("leftovers_remain", seconds=seconds)

    async def _stop_all(self) -> None:
        unstored = await self._redis.smembers(self._keys("{queue}:unstored"))
        executions = list(await self._executor.list())
        random.shuffle(executions)  # so that those that can't be stopped do not keep the others waiting, each round
        places = asyncio.Semaphore(MAX_PARALLEL_STOPS)
        errors: list[Exception] = []

        async def stop(execution: Execution) -> None:
            async with places:
                try:
                    async with asyncio.timeout(self._settings.build_stop_seconds):
                        await self._stop_one(execution, is_unstored=execution.build_id.encode() in unstored)
                except REDIS_PY_UNAVAILABLE:
                    raise
                except Exception as error:  # noqa: BLE001 - the next round tries again, and the others don't wait
                    log.warning("leftover_not_stopped", build_id=execution.build_id, error=str(error))
                    errors.append(error)

        await run_all(*(stop(execution) for execution in executions))
        if errors:
            raise errors[-1]

    async def _stop_one(self, execution: Execution, *, is_unstored: bool) -> None:
        record = await self._records.read(build_topic(execution.build_id))
        if record is None:
            # A missing record alone is not a reason to stop it: the execution goes on, and may yield its image.
            if not execution.is_alive and await self._attempts.is_superseded(execution.build_id):
                await self._executor.remove(execution.build_id)
            return

        if record.get("final") != "1" or is_unstored:
            return
        if execution.is_alive:
            log.warning("execution_stopped", build_id=execution.build_id, state=record.get("state"))
            # Stopping needs no more than id and epoch, and the rest may be what can't be read.
            build_id = execution.build_id
            attempt = Attempt(build_id=build_id, image="", repo_url="", ref="", epoch=execution.epoch)
            await self._executor.stop(attempt)
        await self._executor.remove(execution.build_id)
