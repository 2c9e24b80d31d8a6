"""The one reader of a topic in a process, and the entries that it buffers for the topic's followers."""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from enum import Enum

from services.common.redis.keys import Topic
from services.common.service.logging import get_logger
from services.common.streams.entries import Entry
from services.common.streams.positions import STREAM_START, position_key

log = get_logger(__name__)

FetchEntries = Callable[[Topic, str, int], Awaitable[list[Entry]]]
"""Reads from Redis the entries of a topic beyond a position, up to a number of them."""

BUFFER_BYTES = 256 * 1024
"""How much of a topic's end is buffered; a follower that is further behind reads from Redis."""

FETCH_COUNT = 500
"""Entries in one read from Redis."""

LOST_AFTER_CHECKS = 3
"""A record that is missing this many times in a row is lost: an owner that lives has written it again long since."""

NEAR_END = 8
"""Followers are seldom more than this number of entries behind the end, so those are compared one by one."""


class Feed(Enum):
    """The ways by which new entries reach a reader without being read from Redis."""

    NONE = "none"
    """None yet, or none any more: what is written meanwhile has to be read."""
    OWNER = "owner"
    """This process owns the record, and hands over each entry that it writes."""
    SUBSCRIPTION = "subscription"
    """Messages on the topic's channel."""


class Reader:
    """The one reader of a topic in this process.

    It buffers the end of the topic, and calls each follower's listener when there are new entries. The bus subscribes
    it, feeds it with messages, and drops it with its last follower.
    """

    def __init__(self, topic: Topic, fetch: FetchEntries) -> None:
        self.topic = topic
        self._fetch = fetch
        self._lock = asyncio.Lock()

        self.entries: list[Entry] = []
        self.buffered_from: tuple[int, int] | None = None
        """Every entry after this position is in `entries`; None before the first read."""
        self.buffered_bytes = 0
        self.has_ended = False
        """Whether the topic's terminal entry has arrived."""
        self.is_lost = False
        """Whether Redis has lost the topic's record, and nobody writes it again."""
        self.is_over = asyncio.Event()
        """Set while the topic has ended or is lost: nothing more is to come."""

        self.listeners: set[Callable[[], None]] = set()
        self.followers = 0
        self.opening = asyncio.Lock()
        """Held for the subscription and the first read, which followers that come at the same time share."""
        self.feed = Feed.NONE

        self.missing_checks = 0
        """How many times in a row the topic's record did not exist when the bus checked."""

    @property
    def last(self) -> Entry | None:
        """The newest entry."""
        return self.entries[-1] if self.entries else None

    @property
    def awaits_others(self) -> bool:
        """Whether followers wait for what another process writes."""
        return self.followers > 0 and not self.has_ended and self.feed is not Feed.OWNER

    async def read(self) -> None:
        """Read what the stream has beyond the newest entry."""
        async with self._lock:
            after = self._read_position()
            while True:
                entries = await self._fetch(self.topic, after, FETCH_COUNT)
                self.append(entries)
                if len(entries) < FETCH_COUNT:
                    return
                after = entries[-1].id

    def _read_position(self) -> str:
        if self.buffered_from is None:
            self.buffered_from = position_key(STREAM_START)
        if self.last:
            return self.last.id
        return "{}-{}".format(*self.buffered_from)

    async def after(self, position: str) -> list[Entry]:
        """Return the entries beyond a position: from the buffer, or from Redis for a follower that is far behind.

        From Redis they are at most `FETCH_COUNT`: while `has_beyond`, the follower asks for more.
        """
        if self.buffered_from is None:
            await self.read()

        key = position_key(position)
        if self.buffered_from is None or key < self.buffered_from:
            return await self._fetch(self.topic, position, FETCH_COUNT)

        if len(self.entries) > NEAR_END and self.entries[-NEAR_END].key > key:
            return self.entries[bisect_right(self.entries, key, key=lambda entry: entry.key) :]
        return [entry for entry in self.entries[-NEAR_END:] if entry.key > key]

    def has_beyond(self, position: str) -> bool:
        """Return whether there are entries beyond a position: `after` returns the first of them alone, if many."""
        return self.last is not None and self.last.key > position_key(position)

    def on_message(self, message: bytes) -> bool:
        """Take the entry in a message of the topic's channel. Return False if one before it is not here yet."""
        previous, position, number, lines, size, payload = message.split(b" ", 5)
        return self.take_next(
            previous.decode(),
            Entry(id=position.decode(), number=int(number), lines=int(lines), bytes_before=int(size), payload=payload),
        )

    def take_next(self, previous: str, entry: Entry) -> bool:
        """Append the entry that follows `previous`. Return False if `previous` is not the newest entry here."""
        if self.buffered_from is None:
            return False

        newest = self.last.id if self.last else STREAM_START
        if position_key(newest) >= entry.key:
            return True
        if previous != newest:
            return False

        self.append([entry])
        return True

    def append(self, entries: list[Entry]) -> None:
        """Append new entries, oldest first, and call the listeners; entries that are here already are ignored."""
        has_new = False
        for entry in entries:
            if self._is_known(entry):
                continue
            self.entries.append(entry)
            self.buffered_bytes += len(entry.payload)
            self.has_ended = self.has_ended or entry.is_terminal
            has_new = True

        self._shrink()
        if has_new:
            self.missing_checks = 0
            self.is_lost = False
            self._notify()

    def on_record_check(self, *, exists: bool) -> None:
        """Take note of whether Redis has the topic's record, and tell the followers once it is lost."""
        self.missing_checks = 0 if exists else self.missing_checks + 1
        was_lost = self.is_lost
        self.is_lost = self.missing_checks >= LOST_AFTER_CHECKS
        if self.is_lost and not was_lost:
            log.warning("topic_lost", topic=f"{self.topic.kind}:{self.topic.id}", followers=self.followers)
        if self.is_lost != was_lost:
            self._notify()

    def _notify(self) -> None:
        if self.has_ended or self.is_lost:
            self.is_over.set()
        else:
            self.is_over.clear()
        for listener in list(self.listeners):
            listener()

    def _is_known(self, entry: Entry) -> bool:
        """Return whether an entry is here, if by another id: a write that Redis lost is repeated with its number."""
        last = self.last
        if last is None:
            return False
        if entry.key <= last.key or entry.number < last.number:
            return True
        return entry.number == last.number and entry.payload == last.payload

    def _shrink(self) -> None:
        while self.buffered_bytes > BUFFER_BYTES and len(self.entries) > 1:
            oldest = self.entries.pop(0)
            self.buffered_bytes -= len(oldest.payload)
            self.buffered_from = oldest.key
