"""One run of a launch's conductor on this gateway: until the launch ends, or something stops it."""

import asyncio
import math

from services.common.context import ProcessContext
from services.common.models import LaunchState
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import Fenced
from services.common.redis.client import REDIS_PY_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Kind, Topic
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.tasks import cancel_and_wait
from services.gateway.launches.abandonment import Abandonment
from services.gateway.launches.bans import Bans, CheckedLaunch
from services.gateway.launches.conductor import Conductor
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)


def launch_topic(launch_id: str) -> Topic:
    """Return the topic of a launch."""
    return Topic(Kind.LAUNCH, launch_id)


class LaunchRun:
    """Runs a conductor, and ends its launch if that fails, is cancelled, banned or abandoned, or takes too long."""

    def __init__(
        self,
        *,
        conductor: Conductor,
        context: ProcessContext,
        settings: GatewaySettings,
        cancel_requests: CancelRequests,
        abandonment: Abandonment,
        bans: Bans,
    ) -> None:
        self._conductor = conductor
        self._context = context
        self._settings = settings
        self._cancel_requests = cancel_requests
        self._abandonment = abandonment
        self._bans = bans

    async def run(self, *, is_cancelled: bool = False) -> None:
        """Run until the launch has ended or belongs to another gateway. Cancelling leaves it to another gateway.

        `is_cancelled`: whether a cancel was requested before this run.
        """
        launch_id = self._conductor.launch.launch_id
        cancel = self._cancel_requests.register(launch_id, is_requested=is_cancelled)
        try:
            with (
                self._abandonment.watching(self._conductor) as is_abandoned,
                self._bans.watching(self._conductor) as checked,
            ):
                await self._wait_for_outcome(cancel, is_abandoned, checked)
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

    async def _wait_for_outcome(
        self, cancel: asyncio.Event, is_abandoned: asyncio.Event, checked: CheckedLaunch
    ) -> None:
        """Return when the launch has ended.

        Raise `BinderyError` if the launch failed, was cancelled, banned or abandoned, or took too long.
        """
        if cancel.is_set() and self._conductor.launch.state is not LaunchState.RESOLVING:
            # It was adopted, and its record names all that was requested for it: nothing is to begin any more.
            raise BinderyError("cancelled", "The launch was cancelled.")

        # Three events and a deadline: `run_until`, which races work against one event, does not serve here.
        conduct = asyncio.create_task(self._conduct_through_outages(), name="conduct")
        events = (cancel, is_abandoned, checked.is_banned)
        outcomes = {conduct, *(asyncio.create_task(event.wait()) for event in events)}
        try:
            await asyncio.wait(outcomes, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
            if conduct.done():
                await conduct
                return
        finally:
            records = self._context.records
            await cancel_and_wait(
                *outcomes,
                again_seconds=records.cancel_again_seconds, within_seconds=records.cancel_within_seconds,
            )  # fmt: skip

        if self._conductor.record.has_ended:  # the conductor wrote the end while it was being cancelled
            return
        if cancel.is_set():
            raise BinderyError("cancelled", "The launch was cancelled.")
        if checked.is_banned.is_set():
            raise BinderyError("banned", checked.refusal)
        if is_abandoned.is_set():
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

    async def _fail(self, error: BinderyError) -> None:
        """Undo what the launch has requested, and end it with an error."""
        conductor = self._conductor
        is_unwanted = error.has_code("cancelled", "abandoned")
        try:
            # This write is refused if the launch has ended or belongs to another gateway by now: then its server is in
            # use. After this write, an earlier one of the end, if it was interrupted, can take no effect any more.
            await conductor.record.write()

            # The end is written last: a gateway that adopts the launch before that undoes everything again.
            # An abandoned launch lets its build finish; a cancelled or banned one stops it, unless others wait for it.
            stop_build = error.has_code("cancelled", "banned")
            await conductor.side_effects.compensate(conductor.launch, stop_build=stop_build)
            await conductor.fail(error, LaunchState.CANCELLED if is_unwanted else LaunchState.FAILED)
        except Fenced:
            log.warning("launch_not_ours")
