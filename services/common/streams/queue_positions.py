"""The places of waiting builds, as this process shows them: reckoned by one script for all, when the queue changes."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from services.common.models import Phase, Queue
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.redis.scripts import Scripts
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)


@dataclass(frozen=True)
class QueuePosition:
    """Where a build stands that waits for a slot: it is number `position` of `length`."""

    position: int
    length: int
    reason: str
    waiting_for: str = "slot"
    rendered: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """The bytes of `event` by format: made once for all followers."""

    @property
    def queue(self) -> Queue:
        return Queue(reason=self.reason, position=self.position)

    @property
    def event(self) -> dict[str, Any]:
        """What followers are told. It stands in no stream and has no position: a client never resumes at it."""
        said = f"Waiting for a builder: place {self.position} of {self.length}."
        message = f"{said}\n" if self.waiting_for == "slot" else f"{said} {self.reason}\n"
        return {"phase": Phase.WAITING, "message": message, "queue": self.queue.model_dump()}

    def same_as(self, other: "QueuePosition | None") -> bool:
        """Whether there is nothing new to tell: a queue that grows behind a build changes nothing for it."""
        return other is not None and (self.position, self.reason) == (other.position, other.reason)


@dataclass
class WatchedBuild:
    """A build whose place somebody is shown; `place` is None before it is known, and once the build has a slot."""

    place: QueuePosition | None = None
    listeners: set[Callable[[], None]] = field(default_factory=set)


class QueuePositions:
    """Reads places; keeps those that are watched up to date while `run` runs."""

    def __init__(self, redis: Redis, keys: Keys, *, tick_seconds: float, reread_seconds: float) -> None:
        self._redis, self._prefix = redis, keys.prefix
        self.channel = keys("{queue}:version")
        """Carries each new version of the queue."""
        names = ("{queue}:waiting", "{queue}:running", "{queue}:version", "slots", "{queue}:limits")
        self._keys = [keys(name) for name in names]
        self._scripts = Scripts(redis, "services.common.streams.scripts")
        self._tick_seconds, self._reread_seconds = tick_seconds, reread_seconds
        self._watched: dict[str, WatchedBuild] = {}
        self._version = b""
        self._news = asyncio.Event()

    async def of(self, *build_ids: str) -> dict[str, QueuePosition]:
        """The places of those among some builds that wait for a slot, as they are now."""
        version, length, cap, *found = await self._scripts.run(
            "queue_positions", self._keys, [self._prefix, *build_ids]
        )
        self._version = version
        reasons = {
            "slot": "All builders are busy.",
            "repo": f"This repository has as many builds under way as it may have ({cap}).",
            "worker": "No builder is running.",
            "start": "A builder is about to take it.",
        }
        return {
            build_id: QueuePosition(place, length, reasons[waiting_for.decode()], waiting_for.decode())
            for build_id, place, waiting_for in zip(build_ids, found[::2], found[1::2], strict=True)
            if place
        }

    @contextlib.contextmanager
    def watching(self, build_id: str, changed: Callable[[], None]) -> Iterator[WatchedBuild]:
        """Keep a build's place up to date until the block ends; `changed` is called when it has changed."""
        watched = self._watched.get(build_id)
        if watched is None:
            watched = self._watched[build_id] = WatchedBuild()
            self._news.set()
        watched.listeners.add(changed)
        try:
            yield watched
        finally:
            watched.listeners.discard(changed)
            if not watched.listeners and self._watched.get(build_id) is watched:
                del self._watched[build_id]

    def on_message(self, version: bytes) -> None:
        """The queue has changed."""
        if version != self._version:
            self._news.set()

    async def run(self) -> None:
        """Look at the queue when it has changed, and once in a while in case that was not heard, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._reread_seconds):
                    await self._news.wait()
            self._news.clear()
            try:
                if self._watched:
                    with attributed_to("upkeep"):
                        await self._look()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="places", error=str(error))
            except Exception as error:  # who waits is told a place later, and nobody's stream ends for it
                log.exception("places_failed", error=str(error))
            await sleep_unless_cancelled(self._tick_seconds)

    async def _look(self) -> None:
        shown = dict(self._watched)
        found = await self.of(*shown)
        for build_id, watched in shown.items():
            place = found.get(build_id)
            if place is None or not place.same_as(watched.place):
                is_news = watched.place is not place
                watched.place = place
                for listener in list(watched.listeners) if is_news else ():
                    listener()
