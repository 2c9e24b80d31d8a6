"""One run of a launch's conductor on this gateway: until the launch ends, or something stops it."""

import asyncio
import math

from services.common.context import ProcessContext
from services.common.models import LaunchState
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import Fenced
from services.common.redis.client import REDIS_PY_UNAVAILABLE, REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Kind, Topic
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import cancel_and_wait
from services.gateway.launches.conductor import Conductor
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

ABANDONABLE_STATES = {LaunchState.RESOLVING, LaunchState.BUILDING, LaunchState.WAITING}
"""States of a launch without a seat. Only such a launch is abandoned when nobody follows it."""


def launch_topic(launch_id: str) -> Topic:
    """Return the topic of a launch."""
    return Topic(Kind.LAUNCH, launch_id)


class LaunchRun:
    """Runs a conductor, and ends its launch if that fails, is cancelled, is abandoned or takes too long."""

    def __init__(
        self,
        *,
        conductor: Conductor,
        context: ProcessContext,
        settings: GatewaySettings,
        cancel_requests: CancelRequests,
    ) -> None:
        self._conductor = conductor
        self._context = context
        self._settings = settings
        self._cancel_requests = cancel_requests

    async def run(self, *, is_cancelled: bool = False) -> None:
        """Run until the launch has ended or belongs to another gateway. Cancelling leaves it to another gateway.

        `is_cancelled`: whether a cancel was requested before this run.
        """
        launch_id = self._conductor.launch.launch_id
        cancel = self._cancel_requests.register(launch_id, is_requested=is_cancelled)
        try:
            await self._wait_for_outcome(cancel)
        except BinderyError as error:
            await self._fail(error)
        except Fenced:
            log.warning("launch_not_ours")
        except Exception as error:
            log.exception("launch_broke", error=str(error))
            await self._fail(BinderyError("internal"))
        finally:
            await self._conductor.side_effects.cancel_calls()
            self._cancel_requests.unregister(launch_id, cancel)

    async def _wait_for_outcome(self, cancel: asyncio.Event) -> None:
        """Return when the launch has ended.

        Raise `BinderyError` if the launch failed, was cancelled or abandoned, or took too long.
        """
        # Two events and a deadline: `run_until`, which races work against one event, does not serve here.
        abandonment = asyncio.Event()
        conduct = asyncio.create_task(self._conduct_through_outages(), name="conduct")
        outcomes = {conduct, asyncio.create_task(cancel.wait()), asyncio.create_task(abandonment.wait())}
        watch = asyncio.create_task(self._watch_followers(abandonment))
        try:
            await asyncio.wait(outcomes, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
            if conduct.done():
                await conduct
                return
        finally:
            records = self._context.records
            await cancel_and_wait(
                *outcomes, watch,
                again_seconds=records.cancel_again_seconds, within_seconds=records.cancel_within_seconds,
            )  # fmt: skip

        if self._conductor.record.has_ended:  # the conductor wrote the end while it was being cancelled
            return
        if cancel.is_set():
            raise BinderyError("cancelled", "The launch was cancelled.")
        if abandonment.is_set():
            raise BinderyError("abandoned", "Nobody followed this launch, so no server was started.")
        raise BinderyError("launch_timeout")

    def _seconds_left(self) -> float:
        age_seconds = clock.now() - self._conductor.launch.created_at
        return max(0.0, self._settings.launch_timeout_seconds - age_seconds)

    async def _conduct_through_outages(self) -> None:
        """Conduct the launch, and start over with its current state after an outage of Redis."""

        async def conduct() -> None:
            try:
                await self._conductor.conduct()
            except REDIS_PY_UNAVAILABLE as error:
                log.warning("redis_away", doing="conduct", error=str(error))
                raise

        await retry_while_unavailable(conduct, seconds=math.inf, unavailable=REDIS_PY_UNAVAILABLE)

    async def _watch_followers(self, abandonment: asyncio.Event) -> None:
        """Set `abandonment` when nobody has followed or read the launch for long enough, while it has no seat yet."""
        if self._conductor.launch.options.detached:
            return  # it is never abandoned

        limit_seconds = self._settings.abandoned_seconds
        watched_at = clock.now()

        async def look() -> None:
            nonlocal watched_at
            try:
                watched_at = max(watched_at, await self._seen_at())
            except Exception:
                watched_at = clock.now()  # followers elsewhere may have been kept from leaving the time, too
                raise

            is_unwatched = clock.now() - watched_at > limit_seconds
            if is_unwatched and self._conductor.launch.state in ABANDONABLE_STATES:
                abandonment.set()

        pause_seconds = limit_seconds / 8
        await run_forever(
            look, name="abandonment", wait=pause_seconds, retry_max_seconds=pause_seconds, unavailable=REDIS_UNAVAILABLE
        )

    async def _seen_at(self) -> float:
        """Return when the launch was last followed or read. Raise `ValueError` if that is damaged in the record."""
        topic = launch_topic(self._conductor.launch.launch_id)
        if self._context.bus.is_followed(topic):
            return clock.now()
        # Followers on other gateways, and readers, leave the time in the record.
        return float(await self._context.redis.hget(self._context.keys.record(topic), "seen") or 0.0)

    async def _fail(self, error: BinderyError) -> None:
        """Undo what the launch has requested, and end it with an error."""
        conductor = self._conductor
        is_unwanted = error.has_code("cancelled", "abandoned")
        try:
            # This write is refused if the launch has ended or belongs to another gateway by now: then its server is in
            # use. After this write, an earlier one of the end, if it was interrupted, can take no effect any more.
            await conductor.record.write()

            # The end is written last: a gateway that adopts the launch before that undoes everything again.
            # An abandoned launch lets its build finish; a cancelled one stops it, unless others wait for it.
            await conductor.side_effects.compensate(conductor.launch, stop_build=error.has_code("cancelled"))
            await conductor.fail(error, LaunchState.CANCELLED if is_unwanted else LaunchState.FAILED)
        except Fenced:
            log.warning("launch_not_ours")
