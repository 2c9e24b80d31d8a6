"""One launch's stream: its own events, with the topics that they open spliced in, from any position on.

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

They are made for each client, since they tell where the server is.
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
        own, _, topic = rest.partition("~")
        try:
            entry, events = parse_position(own)
            if topic in {"", "-"}:
                return cls(launch_id=launch_id, entry=entry, events=events)
            topic_entry, topic_events = parse_position(topic)
        except ValueError:
            return None
        return cls(launch_id=launch_id, entry=entry, events=events, topic_entry=topic_entry, topic_events=topic_events)


class LaunchStream:
    """Follows one launch for one client."""

    def __init__(
        self,
        *,
        bus: Bus,
        logs: LogStore,
        position: LaunchPosition,
        form: EventFormat,
        encode_terminal: EncodeTerminal,
        queue_positions: QueuePositions | None = None,
    ) -> None:
        self._bus = bus
        self._logs = logs
        self._at = position
        self._form = form
        self._encode_terminal = encode_terminal
        self._queue_positions = queue_positions

    async def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
        """Yield what there is, in chunks, and None when there is no more yet: wait for news, then go on."""
        topic = Topic(Kind.LAUNCH, self._at.launch_id)
        async with self._bus.follow(topic, listener.notify) as reader:
            if self._at.events:
                async for chunk in self._rest_of_topic(reader, listener):
                    yield chunk

            while True:
                listener.has_news = False
                entries = await self._entries(reader)
                for entry in entries:
                    async for chunk in self._chunks_of(reader, listener, entry):
                        yield chunk
                    if entry.is_terminal:
                        return
                if not entries:  # after some, the launch may have gone on while one of its topics was delivered
                    yield None

    async def _entries(self, reader: Reader) -> list[Entry]:
        """Return the entries beyond the position, with the one that was delivered in part."""
        if not self._at.events:
            entries = await reader.after(self._at.entry)
        else:
            entries = await reader.after(position_before(self._at.entry))
            if entries and entries[0].id == self._at.entry and self._is_delivered(entries[0]):
                entries = entries[1:]

        if not entries and reader.has_ended and reader.last:
            return [reader.last]  # the client already has the end
        return entries

    def _is_delivered(self, entry: Entry) -> bool:
        """Return whether a client at the position has all of its entry. The end never counts: it is sent again."""
        return not entry.is_terminal and len(entry.events) <= self._at.events

    async def _chunks_of(self, reader: Reader, listener: Listener, entry: Entry) -> AsyncIterator[bytes | None]:
        """Yield the events of a launch's entry that the client does not have, each with the topic that it opens."""
        launch_id = self._at.launch_id
        delivered = self._delivered_events(entry)
        for number, event in enumerate(entry.events[delivered:], start=delivered + 1):
            self._at = LaunchPosition(launch_id=launch_id, entry=entry.id, events=number)
            event_id = f"{launch_id}~{entry.id}.{number}~-"
            if event.get("terminal"):
                yield await self._encode_terminal(event, event_id)
            elif (data := self._form.render(event, False)) is not None:
                yield b"id: %s\ndata: %s\n\n" % (event_id.encode(), data)

            if opens := event.get("opens"):
                async for chunk in self._spliced(reader, listener, opens, _start_of(opens)):
                    yield chunk

        if not entry.is_terminal:
            self._at = LaunchPosition(launch_id=launch_id, entry=entry.id, events=len(entry.events))

    def _delivered_events(self, entry: Entry) -> int:
        """Return how many of an entry's events the client has. The end never counts: it is sent again."""
        delivered = self._at.events if entry.id == self._at.entry else 0
        if not entry.is_terminal:
            return delivered
        if position_key(self._at.entry) > entry.key:
            return len(entry.events) - 1
        return min(delivered, len(entry.events) - 1)

    async def _rest_of_topic(self, reader: Reader, listener: Listener) -> AsyncIterator[bytes | None]:
        """Yield the rest of the topic that was open at the position, or that the event there has opened."""
        opens = await self._topic_at_position(reader)
        if opens is None:
            return

        position = _start_of(opens)
        if self._at.topic_entry is not None:
            position = TopicPosition(self._at.topic_entry, self._at.topic_events)
            if not position.events:  # the id of a gap: nothing of the entry behind it was delivered
                position = TopicPosition(position_before(position.entry))
        async for chunk in self._spliced(reader, listener, opens, position):
            yield chunk

    async def _topic_at_position(self, reader: Reader) -> OpenedTopic | None:
        for entry in await reader.after(position_before(self._at.entry)):
            if entry.id == self._at.entry and 1 <= self._at.events <= len(entry.events):
                return entry.events[self._at.events - 1].get("opens")
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
            prefix=f"{self._at.launch_id}~{self._at.entry}.{self._at.events}",
            queue_positions=self._queue_positions,
            owner=launch,
            opened_by=self._at.entry,
        )
        async with contextlib.aclosing(stream.chunks(listener, position)) as chunks:
            async for chunk in chunks:
                yield chunk


def _start_of(opens: OpenedTopic) -> TopicPosition:
    return TopicPosition(str(opens.get("after", STREAM_START)))
