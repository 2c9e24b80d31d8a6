"""The launches of this gateway that nobody follows or reads any more, found by one look for all of them."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.common.context import ProcessContext
from services.common.models import LaunchState
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.wrong_type import execute_each
from services.common.service.clock import clock
from services.common.service.each import for_each
from services.common.service.loops import run_forever
from services.gateway.launches.conductor import Conductor

ABANDONABLE_STATES = {LaunchState.RESOLVING, LaunchState.BUILDING, LaunchState.WAITING}
"""States of a launch without a seat. Only such a launch is abandoned when nobody follows it."""

RETURN_SHARE = 0.5
"""Share of the limit that followers have to come back after a launch was taken over: their connections broke."""


@dataclass(eq=False, kw_only=True)
class WatchedLaunch:
    """A launch that is conducted here, and what is known of its followers."""

    conductor: Conductor
    followed_at: float
    """When it was followed or read last, or may have been."""
    is_abandoned: asyncio.Event = field(default_factory=asyncio.Event)
    seen: bytes | None = None
    """The time that followers on any gateway, and readers, have left in its record, as it was read last."""

    @property
    def name(self) -> str:
        """Name of the launch's record."""
        return self.conductor.record.topic.name


class Abandonment:
    """Finds the launches of this gateway that nobody has followed or read for `limit_seconds`."""

    def __init__(self, context: ProcessContext, *, limit_seconds: float) -> None:
        self._context = context
        self._limit_seconds = limit_seconds
        self._watched: set[WatchedLaunch] = set()

    @contextlib.contextmanager
    def watching(self, conductor: Conductor) -> Iterator[asyncio.Event]:
        """Watch a launch until the block ends. The event is set if it is to be abandoned; never for a detached one.

        The time of a launch that was taken over goes on: its followers have left it in the record.
        """
        earliest = clock.now() - (1 - RETURN_SHARE) * self._limit_seconds
        launch = WatchedLaunch(conductor=conductor, followed_at=max(conductor.launch.created_at, earliest))
        if not conductor.launch.options.detached:
            self._watched.add(launch)
        try:
            yield launch.is_abandoned
        finally:
            self._watched.discard(launch)

    async def run(self) -> None:
        """Look for followers of all launches now and then, until cancelled."""
        pause_seconds = self._limit_seconds / 8
        await run_forever(
            self._look, name="abandonment", wait=pause_seconds, retry_max_seconds=pause_seconds,
            unavailable=REDIS_UNAVAILABLE,
        )  # fmt: skip

    async def _look(self) -> None:
        """Look at all launches, by one round trip for those without followers on this gateway."""
        unfollowed: list[WatchedLaunch] = []
        for launch in self._watched:
            if self._context.bus.is_followed(launch.conductor.record.topic):
                launch.followed_at = clock.now()
            else:
                unfollowed.append(launch)
        if not unfollowed:
            return

        try:
            await self._read_seen(unfollowed)
        except Exception:
            for launch in unfollowed:
                launch.followed_at = clock.now()  # followers elsewhere may have been kept from leaving the time, too
            raise

        await for_each(unfollowed, self._abandon_if_unfollowed, unavailable=())

    async def _read_seen(self, launches: list[WatchedLaunch]) -> None:
        async with self._context.redis.pipeline(transaction=False) as pipe:
            for launch in launches:
                pipe.hget(self._context.keys.record(launch.conductor.record.topic), "seen")
            answers = await execute_each(pipe)
        for launch, seen in zip(launches, answers, strict=True):
            launch.seen = seen

    async def _abandon_if_unfollowed(self, launch: WatchedLaunch) -> None:
        """Abandon a launch that has no seat yet. Raise `ValueError` if its time is damaged: it may be followed."""
        try:
            launch.followed_at = max(launch.followed_at, float(launch.seen or 0.0))
        except ValueError:
            launch.followed_at = clock.now()
            raise

        is_unfollowed = clock.now() - launch.followed_at > self._limit_seconds
        if is_unfollowed and launch.conductor.launch.state in ABANDONABLE_STATES:
            launch.is_abandoned.set()
