"""The event bus: one subscription connection a process, one reader a topic, whatever the number of followers.

A wake-up carries the entry itself and the id of the one before it. A reader that stands at that one takes the
entry as it is; any other, and every reader each `reread_seconds`, reads the stream. So nothing is missed when a
wake-up is, and nothing is seen twice: entries are numbered by their writer.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from services.common.redis.client import REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Keys, Kind, Topic
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.entries import STREAM_START, Entry, position_key
from services.common.streams.reader import Reader

log = get_logger(__name__)

T = TypeVar("T")


class Bus:
    """The subscriptions and readers of one process."""

    def __init__(
        self,
        redis: Redis,
        subscriber: Redis,
        keys: Keys,
        *,
        reread_seconds: float = 5.0,
        patience_seconds: float = 60,
        renew_seconds: float = 2.0,
        subscribe_all: Collection[Kind] = (),
    ) -> None:
        self.redis, self.keys = redis, keys
        self._look_again_seconds = max(0.9 * reread_seconds, 2 * renew_seconds)
        """Between two looks for a record an owner who lives has renewed its lease, and so written it anew."""
        self._patience_seconds = patience_seconds
        self._subscriber = subscriber
        self._reread_seconds = reread_seconds
        self._patterns = {kind: keys.news(Topic(kind, "*")).encode() for kind in subscribe_all}
        """Kinds of topics of which everything is heard: those are few and short, and following one costs nothing."""
        self._readers: dict[Topic, Reader] = {}
        self._by_channel: dict[bytes, Topic] = {}
        self._listeners: dict[bytes, Callable[[bytes], None]] = {}
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._dirty: set[Topic] = set()
        self._work = asyncio.Event()
        self._connected = asyncio.Event()
        self._reads: set[asyncio.Task[None]] = set()

    async def retry_while_unavailable(self, call: Callable[[], Awaitable[T]]) -> T:
        """`await call()`, again while Redis is away: a stream waits for it, and does not break."""
        return await retry_while_unavailable(call, seconds=self._patience_seconds)

    # Following

    @contextlib.asynccontextmanager
    async def follow(self, topic: Topic, changed: Callable[[], None]) -> AsyncIterator[Reader]:
        """A reader of `topic`, subscribed before its first read, so that nothing falls between the two.

        `changed` is called whenever there is more.
        """
        reader = self._readers.get(topic) or self._readers.setdefault(topic, Reader(self, topic))
        reader.followers += 1
        reader.listeners.add(changed)
        try:
            async with reader.opening:  # who comes second waits for the first one's subscription and read
                if not reader.local and not reader.subscribed:
                    reader.subscribed = True  # before the wait: who is cancelled in it unsubscribes
                    await self._subscribe(self.keys.news(topic).encode(), topic)
                if reader.start is None:
                    await reader.read()
            yield reader
        finally:
            reader.followers -= 1
            reader.listeners.discard(changed)
            if not reader.followers and not reader.local:
                await self._forget(topic, reader)

    async def events(
        self, topic: Topic, after: str = STREAM_START
    ) -> AsyncGenerator[tuple[Entry, dict[str, Any]], None]:
        """Every event beyond `after`, as it happens, until the topic's terminal entry."""
        changed = asyncio.Event()
        async with self.follow(topic, changed.set) as reader:
            while True:
                changed.clear()
                for entry in await reader.after(after):
                    after = entry.id
                    for event in entry.events:
                        yield entry, event
                    if entry.is_terminal:
                        return
                await changed.wait()

    async def wait_for_end(self, topic: Topic) -> bool:
        """Wait for a topic's terminal entry; what comes before it costs nothing. False when the topic was lost."""
        async with self.follow(topic, _ignore) as reader:
            while not reader.ended:
                try:
                    async with asyncio.timeout(self._reread_seconds):
                        await reader.end.wait()
                except TimeoutError:
                    if await self.is_lost(reader):
                        return False
            return True

    async def is_lost(self, reader: Reader) -> bool:
        """Whether a topic's record has gone for good; asked once in a while, however many wait.

        It is missed twice in a row before that is said: after Redis was emptied, an owner who lives writes it anew when
        it next renews its lease.
        """
        now = asyncio.get_running_loop().time()
        if now - reader.looked_at >= self._look_again_seconds:
            reader.looked_at = now
            key = self.keys.record(reader.topic)
            with attributed_to("upkeep"):
                is_there = await self.retry_while_unavailable(lambda: self.redis.exists(key))
            reader.missed = 0 if is_there else reader.missed + 1
        return reader.missed > 1

    def open_local(self, topic: Topic, entry: Entry) -> None:
        """Begin a reader of a topic that this process writes itself: it needs no subscription and no first read."""
        reader = self._readers.setdefault(topic, Reader(self, topic))
        reader.local = True
        reader.start = position_key(STREAM_START)
        reader.append([entry])

    def publish_local(self, topic: Topic, position: bytes, number: int, payload: str, *before: bytes) -> None:
        """This process appended an entry: hand it to the topic's local reader. `before`: last id, lines, bytes."""
        if not (reader := self._readers.get(topic)) or not reader.local:
            return
        message = (
            b" ".join([before[0], position, b"%d" % number, before[1], before[2], payload.encode()]) if before else b""
        )
        if not before or not reader.on_message(message):
            self._mark(topic)

    async def close_local(self, topic: Topic) -> None:
        """This process does not write `topic` any more: whoever follows it here needs the subscription."""
        if not (reader := self._readers.get(topic)) or not reader.local:
            return
        reader.local = False
        if not reader.followers:
            await self._forget(topic, reader)
        elif not reader.ended:
            reader.subscribed = True
            await self._subscribe(self.keys.news(topic).encode(), topic)
            await reader.read()

    async def _forget(self, topic: Topic, reader: Reader) -> None:
        if self._readers.get(topic) is reader and not reader.followers:
            self._readers.pop(topic, None)
            if reader.subscribed:
                await self._unsubscribe(self.keys.news(topic).encode())

    def is_followed(self, topic: Topic) -> bool:
        """Whether somebody follows a topic through this process."""
        reader = self._readers.get(topic)
        return reader is not None and reader.followers > 0

    def followed_topics(self, kind: str) -> list[Topic]:
        """The topics of a kind that somebody follows through this process."""
        return [topic for topic, reader in self._readers.items() if topic.kind == kind and reader.followers]

    # Channels that are not topics

    async def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with each message on a channel, for as long as this process lives."""
        self._listeners[channel.encode()] = heard
        await self._subscribe(channel.encode(), None)

    # The connection

    async def _subscribe(self, channel: bytes, topic: Topic | None) -> None:
        if topic:
            self._by_channel[channel] = topic
        pattern = self._patterns.get(topic.kind) if topic else None
        confirmed = self._confirmed.setdefault(pattern or channel, asyncio.Event())
        with contextlib.suppress(*REDIS_UNAVAILABLE):  # on every new connection all channels are subscribed to again
            async with asyncio.timeout(self._reread_seconds):
                await self._connected.wait()
                if self._pubsub is not None and pattern is None:
                    await self._pubsub.subscribe(channel)
                await confirmed.wait()

    async def _unsubscribe(self, channel: bytes) -> None:
        topic = self._by_channel.pop(channel, None)
        self._confirmed.pop(channel, None)
        is_subscribed = topic is None or topic.kind not in self._patterns
        if self._pubsub is not None and self._connected.is_set() and is_subscribed:
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                await self._pubsub.unsubscribe(channel)

    async def run(self) -> None:
        """Hold the subscription connection, and read again what may have been missed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listening(), name="bus-listen")
            group.create_task(self._reading(), name="bus-read")

    async def _listening(self) -> None:
        while True:
            try:
                async with self._subscriber.pubsub() as pubsub:
                    self._pubsub = pubsub
                    channels = [
                        channel for channel, topic in self._by_channel.items() if topic.kind not in self._patterns
                    ]
                    await pubsub.subscribe(self.keys.idle_channel, *channels, *self._listeners)
                    if self._patterns:
                        await pubsub.psubscribe(*self._patterns.values())
                    self._connected.set()
                    self._mark(*self._readers)  # whatever was said while nobody listened
                    while True:
                        if message := await pubsub.get_message(timeout=self._reread_seconds):
                            self._heard(message)
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="subscribe", error=str(error))
            finally:
                self._connected.clear()
                self._pubsub = None
                for pattern in self._patterns.values():
                    self._confirmed.setdefault(pattern, asyncio.Event()).clear()
            await sleep_unless_cancelled(0.2)

    def _heard(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        if message["type"] in {"subscribe", "psubscribe"}:
            if channel in self._patterns.values():
                self._confirmed.setdefault(channel, asyncio.Event()).set()
            elif confirmed := self._confirmed.get(channel):
                confirmed.set()
            return
        if message["type"] not in {"message", "pmessage"}:
            return
        if listener := self._listeners.get(channel):
            listener(message["data"])
        elif (
            (topic := self._by_channel.get(channel))
            and (reader := self._readers.get(topic))
            and not reader.on_message(message["data"])
        ):
            self._mark(topic)

    def _mark(self, *topics: Topic) -> None:
        self._dirty.update(topics)
        self._work.set()

    async def _reading(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._reread_seconds
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._work.wait()
            except TimeoutError:
                due = loop.time() + self._reread_seconds
                self._dirty.update(t for t, r in self._readers.items() if r.followers and not (r.ended or r.local))
            self._work.clear()
            topics, self._dirty = self._dirty, set()
            for topic in topics:
                if reader := self._readers.get(topic):
                    task = asyncio.create_task(self._read(reader))
                    self._reads.add(task)
                    task.add_done_callback(self._reads.discard)

    async def _read(self, reader: Reader) -> None:
        try:
            await reader.read()
        except REDIS_UNAVAILABLE as error:
            log.warning("redis_away", doing="read", topic=reader.topic.kind, error=str(error))


def _ignore() -> None:
    """The listener of who waits for the end only."""
