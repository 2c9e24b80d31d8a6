"""The event bus: one subscription connection in a process and one reader for a topic, however many followers there are.

A message on a topic's channel carries the new entry itself and the id of the entry before it. A reader whose newest
entry is that one appends the entry without reading Redis. Any other reader reads the stream, and so does every reader
after each connection of the subscription, and once each `reread_seconds`. Therefore a lost message loses no entry, and
no entry arrives twice: writers number them.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

from redis.asyncio import Redis

from services.common.redis.client import REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Keys, Kind, Topic
from services.common.service.logging import get_logger
from services.common.service.loops import LOOP_FAILURES, run_forever
from services.common.service.tasks import cancel_and_wait
from services.common.streams.entries import Entry, StreamEvent
from services.common.streams.lost_topics import check_records
from services.common.streams.positions import STREAM_START, position_key
from services.common.streams.reader import Feed, Reader
from services.common.streams.subscription import OnMessage, Subscription

log = get_logger(__name__)

T = TypeVar("T")

REREAD_TURNS = 20
"""Rereading is spread over so many instants, each with a share of the topics."""


class Bus:
    """The readers of one process, and the connection that wakes them."""

    def __init__(
        self,
        *,
        redis: Redis,
        subscriber: Redis,
        keys: Keys,
        heartbeat_seconds: float,
        reread_seconds: float,
        patience_seconds: float,
        lost_check_seconds: float,
        subscribe_all: Collection[Kind],
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.readers: dict[Topic, Reader] = {}
        """The readers by topic: those with followers, and those of topics that this process has created and owns."""

        self.reread_seconds = reread_seconds
        """Time after which everything that a message could have told is looked up, although the subscription lives."""
        self._patience_seconds = patience_seconds
        self._lost_check_seconds = lost_check_seconds
        """Time between two checks for records, in which a living owner renews its lease and so writes its again."""

        self._covered_kinds = frozenset(subscribe_all)
        """Kinds whose topics are all subscribed to at once: they are few and short, and following one costs nothing."""
        self._subscription = Subscription(
            subscriber,
            publisher=redis,
            keys=keys,
            patterns=[keys.news(Topic(kind, "*")).encode() for kind in self._covered_kinds],
            heartbeat_seconds=heartbeat_seconds,
            on_connect=self.report_loss,
        )
        self._loss_callbacks: list[Callable[[], None]] = []
        self._turns = itertools.cycle(range(REREAD_TURNS))
        self._stale: set[Topic] = set()
        self._has_stale = asyncio.Event()
        self._reads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Hold the subscription connection, reread stale topics and look for lost ones, until cancelled."""
        loops = [
            self._subscription.run(),
            run_forever(self._mark_due, name="reread", wait=self.reread_seconds / REREAD_TURNS),
            run_forever(self._read_stale, name="bus_read", wait=self._has_stale.wait),
            run_forever(
                self._check_records, name="lost_topics", wait=self._lost_check_seconds, unavailable=REDIS_UNAVAILABLE
            ),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop)
        finally:
            await cancel_and_wait(*self._reads)

    async def retry_while_unavailable(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`, and repeat it while Redis is unavailable, so that a stream waits instead of breaking."""
        return await retry_while_unavailable(call, seconds=self._patience_seconds)

    async def listen(self, channel: str, on_message: OnMessage) -> None:
        """Call `on_message` with each message of a channel that is not a topic's."""
        await self._subscription.add(channel.encode(), on_message)

    def on_loss(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever messages may have been lost, so that it looks up what they would have told."""
        self._loss_callbacks.append(callback)

    def report_loss(self) -> None:
        """Look everything up that messages would have told: the subscription is new, or Redis was emptied."""
        self._mark_stale(*self.readers)
        for callback in self._loss_callbacks:
            callback()

    # Following a topic

    @contextlib.asynccontextmanager
    async def follow(self, topic: Topic, on_change: Callable[[], None]) -> AsyncIterator[Reader]:
        """Yield the topic's reader, which calls `on_change` whenever there are new entries.

        It is subscribed before its first read, so that no entry falls between the two.
        """
        reader = self._reader(topic)
        reader.followers += 1
        reader.listeners.add(on_change)

        try:
            await self._attach(reader)
            yield reader

        finally:
            reader.followers -= 1
            reader.listeners.discard(on_change)
            await self._drop_if_unused(reader)

    async def events(self, topic: Topic, after: str = STREAM_START) -> AsyncGenerator[tuple[Entry, StreamEvent], None]:
        """Yield every event beyond `after`, as it happens, until the topic's terminal entry, or until it is lost."""
        changed = asyncio.Event()
        async with self.follow(topic, changed.set) as reader:
            while True:
                changed.clear()
                is_lost = reader.is_lost
                entries = await reader.after(after)
                for entry in entries:
                    after = entry.id
                    for event in entry.events:
                        yield entry, event
                    if entry.is_terminal:
                        return

                if entries and reader.has_beyond(after):
                    continue
                if is_lost:
                    return
                await changed.wait()

    async def wait_for_end(self, topic: Topic) -> bool:
        """Wait for a topic's terminal entry, without the cost of reading events. Return False if the topic is lost."""
        async with self.follow(topic, _ignore) as reader:
            await reader.is_over.wait()
            return reader.has_ended

    def is_followed(self, topic: Topic) -> bool:
        """Return whether this process has a follower of the topic."""
        reader = self.readers.get(topic)
        return reader is not None and reader.followers > 0

    def followed_topics(self, kind: Kind) -> list[Topic]:
        """Return the topics of a kind that have a follower in this process."""
        return [topic for topic, reader in self.readers.items() if topic.kind == kind and reader.followers]

    # Owning a topic

    def open_local(self, topic: Topic, entry: Entry) -> None:
        """Open the reader of a topic that this process has just created: it needs no subscription and no first read."""
        reader = self._reader(topic)
        if reader.feed is Feed.NONE:
            reader.feed = Feed.OWNER
            reader.buffered_from = position_key(STREAM_START)
        reader.append([entry])

    def publish_local(self, topic: Topic, position: bytes, number: int, payload: str, *before: bytes) -> None:
        """Hand an entry that this process has written to the topic's local reader.

        `before` holds what the stream had before it: its last id, lines and bytes. Without that the reader rereads.
        """
        reader = self.readers.get(topic)
        if reader is None or reader.feed is not Feed.OWNER:
            return

        is_taken = False
        if before:
            previous, lines, size = before
            entry = Entry(
                id=position.decode(), number=number, lines=int(lines), bytes_before=int(size), payload=payload.encode()
            )
            is_taken = reader.take_next(previous.decode(), entry)
        if not is_taken:
            self._mark_stale(topic)

    def end_local(self, topic: Topic) -> None:
        """Hand no more entries over, as this process no longer owns the topic: its followers get a subscription."""
        reader = self.readers.get(topic)
        if reader is None or reader.feed is not Feed.OWNER:
            return

        reader.feed = Feed.NONE
        if not reader.followers:
            del self.readers[topic]
        elif not reader.has_ended:
            self._mark_stale(topic)

    # Readers

    def _reader(self, topic: Topic) -> Reader:
        """Return the topic's reader. A lost one is left to its followers: what is written now is another record."""
        reader = self.readers.get(topic)
        if reader is None or reader.is_lost:
            reader = self.readers[topic] = Reader(topic, self._fetch)
        return reader

    async def _fetch(self, topic: Topic, after: str, count: int) -> list[Entry]:
        key = self.keys.events(topic)
        raw = await self.retry_while_unavailable(lambda: self.redis.xrange(key, min=f"({after}", count=count))
        return [Entry.stored(item) for item in raw]

    async def _attach(self, reader: Reader) -> None:
        """Subscribe a reader that has no feed, and then read what it has missed."""
        async with reader.opening:
            has_missed = reader.feed is Feed.NONE or reader.buffered_from is None
            if reader.feed is Feed.NONE:
                await self._subscribe(reader)
            if has_missed:
                await reader.read()

    async def _subscribe(self, reader: Reader) -> None:
        reader.feed = Feed.SUBSCRIPTION  # before the wait, so that a follower cancelled in it unsubscribes
        await self._subscription.add(
            self.keys.news(reader.topic).encode(),
            partial(self._on_message, reader.topic),
            is_covered=reader.topic.kind in self._covered_kinds,
        )

    async def _drop_if_unused(self, reader: Reader) -> None:
        if reader.followers or reader.feed is Feed.OWNER:
            return
        if self.readers.get(reader.topic) is reader:
            del self.readers[reader.topic]
        current = self.readers.get(reader.topic)  # another one, if this one was lost; both have one subscription
        if reader.feed is Feed.SUBSCRIPTION and not (current and current.feed is Feed.SUBSCRIPTION):
            await self._subscription.remove(self.keys.news(reader.topic).encode())

    def _on_message(self, topic: Topic, message: bytes) -> None:
        reader = self.readers.get(topic)
        if reader is not None and not reader.on_message(message):
            self._mark_stale(topic)

    # Rereading

    def _mark_stale(self, *topics: Topic) -> None:
        self._stale.update(topics)
        if self._stale:
            self._has_stale.set()

    async def _mark_due(self) -> None:
        """Mark the topics whose turn it is to be reread: a share of all at a time."""
        turn = next(self._turns)
        due = [topic for topic in self.readers if hash(topic) % REREAD_TURNS == turn]
        self._mark_stale(*(topic for topic in due if self.readers[topic].awaits_others))

    async def _read_stale(self) -> None:
        """Begin to reread every topic that is stale."""
        self._has_stale.clear()
        topics = self._stale
        self._stale = set()
        for topic in topics:
            if reader := self.readers.get(topic):
                task = asyncio.create_task(self._reread(reader))
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)

    async def _reread(self, reader: Reader) -> None:
        try:
            if reader.feed is Feed.NONE:
                await self._attach(reader)
            else:
                await reader.read()
        except REDIS_UNAVAILABLE as error:
            log.warning("redis_away", doing="read", topic=reader.topic.kind, error=str(error))
            self._mark_stale(reader.topic)
        except Exception as error:
            LOOP_FAILURES.labels("bus_read").inc()
            log.exception("topic_not_read", topic=reader.topic.kind, error=str(error))

    async def _check_records(self) -> None:
        """Look for the records of all topics that are followed and may go on."""
        await check_records(self.redis, self.keys, [reader for reader in self.readers.values() if reader.awaits_others])


def _ignore() -> None:
    """Ignore a change, as a follower does that only waits for the end."""
