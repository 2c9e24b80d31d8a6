"""One launch's stream: its own events, with the topics that they open spliced in, from any position on.

An `id:` is `<launch_id>~<launch position>~<position in the topic last opened>`; a position is `<entry>.<number of
events of it that were delivered>`, and `-` stands for no topic. What comes after an id is always the same, whichever
gateway is asked.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from services.common.redis.keys import Kind, Topic
from services.common.streams.bus import Bus
from services.common.streams.entries import STREAM_START, Entry, position_key
from services.common.streams.log_store import LogStore
from services.common.streams.queue_positions import QueuePositions
from services.common.streams.reader import Reader
from services.common.streams.topic_stream import Listener, Render, TopicStream, position_before, split_position


@dataclass(frozen=True)
class Position:
    """Where a follower stands: entries and the number of their events that it has."""

    launch_id: str
    entry: str = STREAM_START
    events: int = 0
    topic_entry: str | None = None
    topic_events: int = 0

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position that an `id:` of ours names, or None for anything else."""
        launch_id, _, rest = text.strip().partition("~")
        own, _, topic = rest.partition("~")
        try:
            entry, events = split_position(own)
            if topic in {"", "-"}:
                return cls(launch_id, entry, events)
            return cls(launch_id, entry, events, *split_position(topic))
        except ValueError:
            return None


@dataclass(frozen=True)
class Chunk:
    """Bytes for a follower. `terminal` is the launch's terminal event, which is rendered for each follower."""

    chunk: bytes = b""
    terminal: dict[str, Any] | None = None
    id: str = ""


class LaunchStream:
    """Follows one launch for one client."""

    def __init__(
        self,
        bus: Bus,
        logs: LogStore,
        position: Position,
        form: str,
        render: Render,
        places: QueuePositions | None = None,
    ) -> None:
        self._bus, self._logs, self._places = bus, logs, places
        self._at = position
        self._form, self._render = form, render

    async def chunks(self, listener: Listener) -> AsyncGenerator[Chunk | None, None]:
        """What there is, piece by piece; None when there is nothing more yet: wait for news, and go on."""
        topic = Topic(Kind.LAUNCH, self._at.launch_id)
        self._listener = listener
        async with self._bus.follow(topic, listener.news) as reader:
            if self._at.events:
                async for piece in self._resume_topic(reader):
                    yield piece
            while True:
                self._listener.has_news = False
                entries = await self._entries_from(reader)
                if not entries and reader.ended and reader.last:
                    entries = [reader.last]  # the position stands behind the end
                for entry in entries:
                    skip = self._at.events if entry.id == self._at.entry else 0
                    if entry.is_terminal:  # who resumes after the end is told the end again
                        behind = position_key(self._at.entry) > entry.key
                        skip = len(entry.events) - 1 if behind else min(skip, len(entry.events) - 1)
                    async for piece in self._deliver(reader, entry, skip):
                        yield piece
                    if entry.is_terminal:
                        return
                if not entries:  # else the launch may have gone on while a topic of it was being delivered
                    yield None

    async def _entries_from(self, reader: Reader) -> list[Entry]:
        """Entries beyond the position, the one that was only partly delivered included."""
        if not self._at.events:
            return await reader.after(self._at.entry)
        found = await reader.after(position_before(self._at.entry))
        return [e for e in found if e.id != self._at.entry or e.is_terminal or len(e.events) > self._at.events]

    async def _deliver(self, reader: Reader, entry: Entry, skip: int) -> AsyncIterator[Chunk | None]:
        launch_id = self._at.launch_id
        for number, event in enumerate(entry.events[skip:], start=skip + 1):
            self._at = Position(launch_id, entry.id, number)
            event_id = f"{launch_id}~{entry.id}.{number}~-"
            if event.get("terminal"):
                yield Chunk(terminal=event, id=event_id)
            elif (data := self._render(event, False)) is not None:
                yield Chunk(b"id: %s\ndata: %s\n\n" % (event_id.encode(), data))
            if opens := event.get("opens"):
                opened = Topic(Kind(opens["kind"]), str(opens["id"]))
                async for piece in self._splice(reader, opened, str(opens.get("after", STREAM_START)), 0):
                    yield piece
        if not entry.is_terminal:
            self._at = Position(launch_id, entry.id, len(entry.events))

    async def _resume_topic(self, reader: Reader) -> AsyncIterator[Chunk | None]:
        """Go on inside the topic that was open at the position, or that the event there has opened."""
        at, skip = self._at.topic_entry, self._at.topic_events
        for entry in await reader.after(position_before(self._at.entry)):
            if entry.id == self._at.entry and 1 <= self._at.events <= len(entry.events):
                if opens := entry.events[self._at.events - 1].get("opens"):
                    opened = Topic(Kind(opens["kind"]), str(opens["id"]))
                    if at is None:
                        at = str(opens.get("after", STREAM_START))
                    elif not skip:  # right after a gap, nothing was delivered yet of the entry behind it
                        at = position_before(at)
                    async for piece in self._splice(reader, opened, at, skip):
                        yield piece
                return

    async def _splice(self, launch: Reader, topic: Topic, after: str, skip: int) -> AsyncIterator[Chunk | None]:
        """Everything of an opened topic, until its end, or until the launch itself ends without it."""
        stream = TopicStream(
            self._bus, self._logs, topic, self._form, self._render, places=self._places, owner=launch,
            prefix=f"{self._at.launch_id}~{self._at.entry}.{self._at.events}", opened_by=self._at.entry,
        )  # fmt: skip
        async with contextlib.aclosing(stream.chunks(self._listener, after, skip)) as chunks:
            async for chunk in chunks:
                yield Chunk(chunk) if chunk is not None else None
