"""One launch's stream, from any position on: its own events, and those of the topics that they open, spliced in.

An `id:` is `<launch_id>~<position in the launch>~<position in the topic opened last>`, with `-` if there is no topic;
a position is `<entry>.<events>`, as `services.common.streams.positions` has it. What follows an id is always the same,
whichever gateway a client asks.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from services.common.redis.keys import Kind, Topic
from services.common.streams.bus import Bus
from services.common.streams.entries import Entry, OpenedTopic, StreamEvent
from services.common.streams.event_format import EventFormat
from services.common.streams.log_store import LogStore
from services.common.streams.positions import (
    STREAM_START,
    TopicPosition,
    parse_position,
    position_before,
    position_key,
)
from services.common.streams.queue_positions import QueuePositions
from services.common.streams.reader import Reader
from services.common.streams.topic_stream import Listener, TopicStream

EncodeTerminal = Callable[[StreamEvent, str], Awaitable[bytes]]
"""Returns the bytes of the launch's terminal event for one client, from the event and its id.

They are made for each client, since they contain the server's address and token.
"""


@dataclass(frozen=True, kw_only=True)
class LaunchPosition:
    """How far a follower has got: entries, and the number of their events that it has received."""

    launch_id: str
    entry: str = STREAM_START
    events: int = 0
    topic_entry: str | None = None
    topic_events: int = 0

    @classmethod
    def parse(cls, text: str) -> "LaunchPosition | None":
        """Return the position that an `id:` of a launch's stream names, or None for any other text."""
        launch_id, _, rest = text.strip().partition("~")
        launch, _, topic = rest.partition("~")
        try:
            entry, events = parse_position(launch)
            if topic in {"", "-"}:
                return cls(launch_id=launch_id, entry=entry, events=events)

            topic_entry, topic_events = parse_position(topic)
        except ValueError:
            return None

        return cls(launch_id=launch_id, entry=entry, events=events, topic_entry=topic_entry, topic_events=topic_events)


class LaunchStream:
    """Follows one launch for one client, until its terminal event.

    A launch that Redis has lost, and whose gateway does not write it again, ends with `lost_event`: those bytes have no
    id, so that a client that connects again resumes where it was.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        logs: LogStore,
        position: LaunchPosition,
        form: EventFormat,
        encode_terminal: EncodeTerminal,
        lost_event: bytes,
        queue_positions: QueuePositions | None = None,
    ) -> None:
        self._bus = bus
        self._logs = logs
        self._queue_positions = queue_positions

        self._position = position
        """How far the client has got in the launch's own events."""
        self._form = form
        self._encode_terminal = encode_terminal
        self._lost_event = lost_event

    async def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
        """Yield chunks; yield None if the caller must wait for `notify` before it asks for more."""
        topic = Topic(Kind.LAUNCH, self._position.launch_id)
        async with self._bus.follow(topic, listener.notify) as reader:
            if self._position.events:
                async for chunk in self._rest_of_topic(reader, listener):
                    yield chunk

            while True:
                listener.has_news = False
                is_lost = reader.is_lost
                entries = await self._entries(reader)
                for entry in entries:
                    async for chunk in self._chunks_of(reader, listener, entry):
                        yield chunk
                    if entry.is_terminal:
                        return
                if entries:  # the launch may have gone on while one of its topics was delivered
                    continue
                if is_lost:
                    yield self._lost_event
                    return
                yield None

    async def _entries(self, reader: Reader) -> list[Entry]:
        """Return the entries beyond the position, with the one that was delivered in part."""
        if not self._position.events:
            entries = await reader.after(self._position.entry)
        else:
            entries = await reader.after(position_before(self._position.entry))
            if entries and entries[0].id == self._position.entry and self._is_delivered(entries[0]):
                entries = entries[1:]

        if not entries and reader.has_ended and reader.last:
            return [reader.last]  # the client already has the end
        return entries

    def _is_delivered(self, entry: Entry) -> bool:
        """Return whether a client at the position has all of its entry. The end never counts: it is sent again."""
        return not entry.is_terminal and len(entry.events) <= self._position.events

    async def _chunks_of(self, reader: Reader, listener: Listener, entry: Entry) -> AsyncIterator[bytes | None]:
        """Yield the events of a launch's entry that the client does not have, each with the topic that it opens."""
        launch_id = self._position.launch_id
        delivered_count = self._count_delivered(entry)
        for number, event in enumerate(entry.events[delivered_count:], start=delivered_count + 1):
            self._advance(entry, number)
            event_id = f"{launch_id}~{entry.id}.{number}~-"
            if event.get("terminal"):
                yield await self._encode_terminal(event, event_id)
            elif (data := self._form.render(event, False)) is not None:
                yield b"id: %s\ndata: %s\n\n" % (event_id.encode(), data)

            if opens := event.get("opens"):
                async for chunk in self._spliced(reader, listener, opens, _start_of(opens)):
                    yield chunk

        if not entry.is_terminal:
            self._advance(entry, len(entry.events))

    def _advance(self, entry: Entry, events: int) -> None:
        """Move the position behind `events` events of an entry, with no topic open."""
        self._position = LaunchPosition(launch_id=self._position.launch_id, entry=entry.id, events=events)

    def _count_delivered(self, entry: Entry) -> int:
        """Return how many of an entry's events the client has. The end never counts: it is sent again."""
        delivered_count = self._position.events if entry.id == self._position.entry else 0
        if not entry.is_terminal:
            return delivered_count
        if position_key(self._position.entry) > entry.key:
            return len(entry.events) - 1
        return min(delivered_count, len(entry.events) - 1)

    async def _rest_of_topic(self, reader: Reader, listener: Listener) -> AsyncIterator[bytes | None]:
        """Yield the rest of the topic that was open at the position, or that the event there has opened."""
        opens = await self._topic_at_position(reader)
        if opens is None:
            return

        topic_position = _start_of(opens)
        if self._position.topic_entry is not None:
            topic_position = TopicPosition(self._position.topic_entry, self._position.topic_events)
            if not topic_position.events:  # the id of a gap: nothing of the entry behind it was delivered
                topic_position = TopicPosition(position_before(topic_position.entry))

        async for chunk in self._spliced(reader, listener, opens, topic_position):
            yield chunk

    async def _topic_at_position(self, reader: Reader) -> OpenedTopic | None:
        for entry in await reader.after(position_before(self._position.entry)):
            if entry.id == self._position.entry and 1 <= self._position.events <= len(entry.events):
                return entry.events[self._position.events - 1].get("opens")
        return None

    async def _spliced(
        self, launch: Reader, listener: Listener, opens: OpenedTopic, position: TopicPosition
    ) -> AsyncIterator[bytes | None]:
        """Yield what an opened topic has behind a position, until its end, or until the launch ends without it."""
        stream = TopicStream(
            bus=self._bus,
            logs=self._logs,
            topic=Topic(Kind(opens["kind"]), str(opens["id"])),
            form=self._form,
            prefix=f"{self._position.launch_id}~{self._position.entry}.{self._position.events}",
            queue_positions=self._queue_positions,
            owner=launch,
            opening_entry=self._position.entry,
        )

        async with contextlib.aclosing(stream.chunks(listener, position)) as chunks:
            async for chunk in chunks:
                yield chunk


def _start_of(opens: OpenedTopic) -> TopicPosition:
    return TopicPosition(str(opens.get("after", STREAM_START)))
