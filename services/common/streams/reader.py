"""The one reader of a topic in a process, and what it keeps for the topic's followers."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.common.redis.keys import Topic
from services.common.streams.entries import STREAM_START, Entry, position_key

if TYPE_CHECKING:
    from services.common.streams.bus import Bus

KEPT_BYTES = 256 * 1024
"""How much of a topic's end stays in memory for its followers; who is further behind reads the stream."""

NEAR = 8
"""A follower is seldom further behind than so many entries."""


class Reader:
    """The one reader of a topic in this process. Keeps the topic's end; wakes its followers when there is more."""

    def __init__(self, bus: "Bus", topic: Topic) -> None:
        self.bus, self.topic = bus, topic
        self.entries: list[Entry] = []
        self.kept = 0
        self.start: tuple[int, int] | None = None
        """Everything after this position, up to the end of `entries`, is in `entries`; None before the first read."""
        self.listeners: set[Callable[[], None]] = set()
        self.followers = 0
        self.end = asyncio.Event()
        """Set when the topic's terminal entry is known."""
        self.missed = 0
        """How often in a row its record was not there when it was looked for."""
        self.looked_at = 0.0
        self.subscribed = False
        self.local = False
        self.opening = asyncio.Lock()
        self._lock = asyncio.Lock()

    @property
    def ended(self) -> bool:
        return self.end.is_set()

    @property
    def last(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    def append(self, entries: list[Entry]) -> None:
        """Take new entries, oldest first; what is known already is passed over."""
        fresh = False
        for entry in entries:
            last = self.last
            if last and (entry.key <= last.key or entry.number < last.number):
                continue  # a write repeated after Redis lost its last second has the number it had
            if last and entry.number == last.number and entry.payload == last.payload:
                continue
            self.entries.append(entry)
            self.kept += len(entry.payload)
            if entry.is_terminal:
                self.end.set()
            fresh = True
        while self.kept > KEPT_BYTES and len(self.entries) > 1:
            gone = self.entries.pop(0)
            self.kept -= len(gone.payload)
            self.start = gone.key
        if fresh:
            self.missed = 0
            for listener in list(self.listeners):
                listener()

    def on_message(self, message: bytes) -> bool:
        """Take an entry from a wake-up. False when something before it is not known here."""
        previous, position, number, lines, size, payload = message.split(b" ", 5)
        entry = Entry(position.decode(), int(number), int(lines), int(size), payload)
        if self.start is None:
            return False
        at = self.last.id if self.last else STREAM_START
        if position_key(at) >= entry.key:
            return True
        if previous.decode() != at and not (self.last is None and previous == b"0-0"):
            return False
        self.append([entry])
        return True

    async def read(self, after: str | None = None, count: int = 500) -> None:
        """Read what the stream has beyond the end of what is known."""
        async with self._lock:
            if self.start is None:
                self.start = position_key(after or STREAM_START)
                at = after or STREAM_START
            else:
                at = self.last.id if self.last else "{}-{}".format(*self.start)
            while True:
                found = await self._beyond(at, count)
                self.append(found)
                if len(found) < count:
                    return
                at = found[-1].id

    async def after(self, position: str) -> list[Entry]:
        """What is known beyond `position`: from memory, or from the stream for who is far behind. May be empty."""
        where = position_key(position)
        if self.start is None:
            await self.read()
        if self.start is not None and where >= self.start:
            if len(self.entries) > NEAR and self.entries[-NEAR].key > where:
                return self.entries[bisect_right(self.entries, where, key=lambda e: e.key) :]
            return [entry for entry in self.entries[-NEAR:] if entry.key > where]
        return await self._beyond(position, 500)

    async def _beyond(self, position: str, count: int) -> list[Entry]:
        key = self.bus.keys.events(self.topic)
        raw = await self.bus.retry_while_unavailable(
            lambda: self.bus.redis.xrange(key, min=f"({position}", count=count)
        )
        return [Entry.stored(item) for item in raw]
