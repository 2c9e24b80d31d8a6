"""Queue positions of waiting builds, as this process shows them: one script computes all when the queue changes."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from redis.asyncio import Redis

from services.common.models import Phase, Queue
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.redis.scripts import Scripts
from services.common.service.call_accounting import attributed_to
from services.common.service.loops import run_forever
from services.common.service.tasks import sleep_unless_cancelled, wait_and_clear
from services.common.streams.entries import StreamEvent
from services.common.streams.reader import Reader


@dataclass(frozen=True, kw_only=True)
class QueuePosition:
    """The position of a build that waits for a slot: number `position` of `length`."""

    position: int
    length: int
    reason: str
    waiting_for: str = "slot"
    rendered: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """The bytes of `event` by format, made once for all followers."""

    @property
    def queue(self) -> Queue:
        """The position as records and clients have it."""
        return Queue(reason=self.reason, position=self.position)

    @property
    def event(self) -> StreamEvent:
        """The event for followers. It is in no stream and has no position, so a client never resumes at it."""
        message = f"Waiting for a builder: place {self.position} of {self.length}."
        if self.waiting_for != "slot":
            message = f"{message} {self.reason}"
        return {"phase": Phase.WAITING, "message": f"{message}\n", "queue": self.queue.model_dump()}

    def same_as(self, other: "QueuePosition | None") -> bool:
        """Return whether a follower that knows `other` learns nothing new: builds behind it are not news."""
        return other is not None and (self.position, self.reason) == (other.position, other.reason)


@dataclass
class WatchedBuild:
    """A build whose position is shown to somebody."""

    queue_position: QueuePosition | None = None
    """None before the first look at the queue, and once the build has a slot."""
    listeners: set[Callable[[], None]] = field(default_factory=set)


class QueuePositions:
    """Reads queue positions, and keeps those of watched builds up to date while `run` runs."""

    def __init__(self, redis: Redis, keys: Keys, *, tick_seconds: float, reread_seconds: float) -> None:
        self.channel = keys("{queue}:version")
        """Carries each new version of the queue."""

        self._prefix = keys.prefix
        names = ("{queue}:waiting", "{queue}:running", "{queue}:version", "slots", "{queue}:limits")
        self._keys = [keys(name) for name in names]
        self._scripts = Scripts(redis, "services.common.streams.scripts")
        self._tick_seconds = tick_seconds
        self._reread_seconds = reread_seconds

        self._watched_builds: dict[str, WatchedBuild] = {}
        self._version = b""
        """The queue's version at the last refresh of all watched builds."""
        self._has_changed = asyncio.Event()

    async def of(self, *build_ids: str) -> dict[str, QueuePosition]:
        """Return the present positions of those builds that wait for a slot."""
        _, positions = await self._read(*build_ids)
        return positions

    async def _read(self, *build_ids: str) -> tuple[bytes, dict[str, QueuePosition]]:
        """Return the queue's version with the positions of those builds that wait for a slot."""
        version, length, cap, *answers = await self._scripts.run(
            "queue_positions", self._keys, [self._prefix, *build_ids]
        )

        reasons = {
            "slot": "All builders are busy.",
            "repo": f"This repository has as many builds under way as it may have ({cap}).",
            "worker": "No builder is running.",
            "start": "A builder is about to take it.",
        }

        positions = {
            build_id: QueuePosition(
                position=position, length=length, reason=reasons[waiting_for.decode()], waiting_for=waiting_for.decode()
            )
            for build_id, position, waiting_for in zip(build_ids, answers[::2], answers[1::2], strict=True)
            if position
        }
        return version, positions

    @contextlib.contextmanager
    def watch(self, build_id: str, on_change: Callable[[], None]) -> Iterator[WatchedBuild]:
        """Keep a build's position up to date until the context exits, and call `on_change` when it has changed."""
        watched_build = self._watched_builds.get(build_id)
        if watched_build is None:
            watched_build = WatchedBuild()
            self._watched_builds[build_id] = watched_build
            self._has_changed.set()

        watched_build.listeners.add(on_change)
        try:
            yield watched_build
        finally:
            watched_build.listeners.discard(on_change)
            if not watched_build.listeners and self._watched_builds.get(build_id) is watched_build:
                del self._watched_builds[build_id]

    def on_loss(self) -> None:
        """Refresh soon: a message may have been lost."""
        self._has_changed.set()

    def on_message(self, version: bytes) -> None:
        """Refresh soon if the watched builds have not been refreshed since the queue has this version."""
        if version != self._version:
            self._has_changed.set()

    async def run(self) -> None:
        """Refresh when the queue has changed, and once in a while in case a message was lost, until cancelled."""
        await run_forever(
            self._refresh, name="queue_positions", wait=self._wait_for_change, unavailable=REDIS_UNAVAILABLE
        )

    async def _wait_for_change(self) -> None:
        await sleep_unless_cancelled(self._tick_seconds)
        await wait_and_clear(self._has_changed, seconds=self._reread_seconds)

    async def _refresh(self) -> None:
        watched_builds = dict(self._watched_builds)
        if not watched_builds:
            return
        with attributed_to("upkeep"):
            self._version, positions = await self._read(*watched_builds)

        for build_id, watched_build in watched_builds.items():
            position = positions.get(build_id)
            if position is not None and position.same_as(watched_build.queue_position):
                continue

            has_changed = watched_build.queue_position is not position
            watched_build.queue_position = position
            if has_changed:
                for listener in list(watched_build.listeners):
                    listener()


class QueueUpdates:
    """The queue positions that one follower of a build has not been sent.

    The queue is watched only while the build has no entry but its first, which says that it waits.
    """

    def __init__(self, queue_positions: QueuePositions | None, reader: Reader, on_change: Callable[[], None]) -> None:
        self._queue_positions = queue_positions
        self._reader = reader
        self._on_change = on_change
        self._watching = contextlib.ExitStack()
        self._watched_build: WatchedBuild | None = None
        self._sent: QueuePosition | None = None

    def next_position(self) -> QueuePosition | None:
        """Return the build's position, to be sent; None if the follower knows it or the build does not wait."""
        last = self._reader.last
        if self._queue_positions is None or last is None or not last.is_first or last.is_terminal:
            self.close()
            return None

        if self._watched_build is None:
            watch = self._queue_positions.watch(self._reader.topic.id, self._on_change)
            self._watched_build = self._watching.enter_context(watch)
        position = self._watched_build.queue_position
        if position is None or position.waiting_for == "start" or position.same_as(self._sent):
            return None
        self._sent = position
        return position

    def close(self) -> None:
        """Stop watching the queue."""
        self._watching.close()
        self._watched_build = None
