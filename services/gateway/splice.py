"""One launch's stream: its own events, with the topics that they open spliced in, from any position on.

An `id:` is `<launch_id>~<launch position>~<position in the topic last opened>`; a position is `<entry>.<number of
events of it that were delivered>`, and `-` stands for no topic. What comes after an id is always the same, whichever
gateway is asked.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from services.common.bus import Bus
from services.common.entries import BEGIN, Entry, order
from services.common.keys import Topic
from services.common.logstore import LogStore
from services.common.reader import Reader

Render = Callable[[dict[str, Any], bool], bytes | None]
"""The bytes of one event's `data:` in a format, or None where the format leaves it out. The flag: it stands in a
spliced topic."""


_POSITION = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?(?:\.(\d{1,20}))?", re.ASCII)
_LAST = 2**64 - 1
"""The largest number of a Redis stream id."""


@dataclass(frozen=True)
class Position:
    """Where a follower stands: entries and the number of their events that it has."""

    launch_id: str
    entry: str = BEGIN
    events: int = 0
    topic_entry: str | None = None
    topic_events: int = 0

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position that an `id:` of ours names, or None for anything else."""
        launch_id, _, rest = text.strip().partition("~")
        own, _, topic = rest.partition("~")
        try:
            entry, events = _split(own)
            if topic in {"", "-"}:
                return cls(launch_id, entry, events)
            return cls(launch_id, entry, events, *_split(topic))
        except ValueError:
            return None


def _split(text: str) -> tuple[str, int]:
    """Entry and number of events. Raises `ValueError` for what no stream can have."""
    if (found := _POSITION.fullmatch(text)) is None:
        raise ValueError(text)
    ms, seq, events = (int(part or 0) for part in found.groups())
    if max(ms, seq, events) >= _LAST:
        raise ValueError(text)
    return f"{ms}-{seq}", events


def _before(entry: str) -> str:
    """The position right before an entry's."""
    ms, seq = order(entry)
    if not ms and not seq:
        return BEGIN
    return f"{ms}-{seq - 1}" if seq else f"{ms - 1}-{_LAST}"


@dataclass(frozen=True)
class Piece:
    """Bytes for a follower. `terminal` is the launch's terminal event, which is rendered for each follower."""

    chunk: bytes = b""
    terminal: dict[str, Any] | None = None
    id: str = ""


PIECE_BYTES = 64 * 1024
"""A piece grows no further than by the entry that takes it past this size."""


class Listener(Protocol):
    """Who follows a stream: `news` is called when there is more; the stream clears `has_news` before it looks."""

    has_news: bool

    def news(self) -> None: ...


class LaunchStream:
    """Follows one launch for one client."""

    def __init__(self, bus: Bus, logs: LogStore, position: Position, form: str, render: Render) -> None:
        self._bus, self._logs = bus, logs
        self._at = position
        self._form, self._render = form, render

    async def pieces(self, listener: Listener) -> AsyncGenerator[Piece | None, None]:
        """What there is, piece by piece; None when there is nothing more yet: wait for news, and go on."""
        topic = Topic("l", self._at.launch_id)
        self._listener = listener
        async with self._bus.following(topic, listener.news) as reader:
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
                        behind = order(self._at.entry) > entry.key
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
        found = await reader.after(_before(self._at.entry))
        return [e for e in found if e.id != self._at.entry or e.is_terminal or len(e.events) > self._at.events]

    async def _deliver(self, reader: Reader, entry: Entry, skip: int) -> AsyncIterator[Piece | None]:
        launch_id = self._at.launch_id
        for number, event in enumerate(entry.events[skip:], start=skip + 1):
            self._at = Position(launch_id, entry.id, number)
            event_id = f"{launch_id}~{entry.id}.{number}~-"
            if event.get("terminal"):
                yield Piece(terminal=event, id=event_id)
            elif (data := self._render(event, False)) is not None:
                yield Piece(b"id: %s\ndata: %s\n\n" % (event_id.encode(), data))
            if opens := event.get("opens"):
                opened = Topic(str(opens["kind"]), str(opens["id"]))
                async for piece in self._splice(reader, opened, str(opens.get("after", BEGIN)), 0):
                    yield piece
        if not entry.is_terminal:
            self._at = Position(launch_id, entry.id, len(entry.events))

    async def _resume_topic(self, reader: Reader) -> AsyncIterator[Piece | None]:
        """Go on inside the topic that was open at the position, or that the event there has opened."""
        at, skip = self._at.topic_entry, self._at.topic_events
        for entry in await reader.after(_before(self._at.entry)):
            if entry.id == self._at.entry and 1 <= self._at.events <= len(entry.events):
                if opens := entry.events[self._at.events - 1].get("opens"):
                    opened = Topic(str(opens["kind"]), str(opens["id"]))
                    if at is None:
                        at = str(opens.get("after", BEGIN))
                    elif not skip:  # right after a gap, nothing was delivered yet of the entry behind it
                        at = _before(at)
                    async for piece in self._splice(reader, opened, at, skip):
                        yield piece
                return

    async def _splice(self, launch: Reader, topic: Topic, after: str, skip: int) -> AsyncIterator[Piece | None]:
        """Everything of an opened topic, until its end, or until the launch itself ends without it."""
        prefix = f"id: {self._at.launch_id}~{self._at.entry}.{self._at.events}".encode()
        async with self._bus.following(topic, self._listener.news) as reader:
            at, first, last_look = after, True, False
            expected: int | None = 0 if after == BEGIN else None
            while True:
                self._listener.has_news = False
                entries = await self._topic_entries(reader, topic, at, skip if first else 0)
                if first and skip and entries and entries[0].id != at and await self._misses(topic, at, entries[0]):
                    yield self._gap(prefix, entries[0], 0)
                together: list[bytes] = []  # what is new goes out in one piece
                size = 0
                for entry in entries:
                    done = skip if first and entry.id == at else 0
                    if expected is not None and entry.lines > expected and not done:
                        if together:
                            yield Piece(prefix + prefix.join(together))
                            together, size = [], 0
                        yield self._gap(prefix, entry, entry.lines - expected)
                    elif expected is not None and topic.kind == "b":
                        # Redis had lost its last second, and who adopted the build has told those lines again.
                        done = max(done, min(len(entry.events), expected - entry.lines))
                    expected = max(expected or 0, entry.lines + len(entry.events))
                    together += self._rendered(entry)[done:] if done else self._rendered(entry)
                    size += len(entry.payload)
                    at = entry.id
                    if together and (size > PIECE_BYTES or entry.is_terminal or entry is entries[-1]):
                        yield Piece(prefix + prefix.join(together))
                        together, size = [], 0
                    if entry.is_terminal:
                        return
                first = first and not entries
                went_on = launch.last is not None and launch.last.id != self._at.entry
                doubtful = not entries and (went_on or not reader.entries)
                if last_look or (doubtful and await self._is_over(topic)):
                    return
                if last_look := self._launch_has_ended(launch, reader):
                    await reader.read()  # what the topic had said before the launch ended may still be on its way
                    continue
                yield None

    async def _topic_entries(self, reader: Reader, topic: Topic, at: str, skip: int) -> list[Entry]:
        if skip:
            at = _before(at)
        found = await reader.after(at)
        if not found and topic.kind == "b" and not reader.entries:
            return await self._logs.read(topic.id, at) or []
        return found

    async def _misses(self, topic: Topic, at: str, entry: Entry) -> bool:
        """Whether lines before `entry` are gone, for who stands at `at`, an entry that is gone itself."""
        redis, key = self._bus.redis, self._bus.keys.events(topic)
        found = await self._bus.patiently(lambda: redis.xrevrange(key, max=f"({at}", count=1))
        before = Entry.stored(found[0]) if found else None
        return entry.lines > (before.lines + len(before.events) if before else 0)

    def _launch_has_ended(self, launch: Reader, reader: Reader) -> bool:
        """The launch was cancelled, or failed by itself: what the topic still says is no longer waited for."""
        last = launch.last
        return last is not None and last.is_terminal and not reader.ended

    async def _is_over(self, topic: Topic) -> bool:
        """The topic's stream is gone, and nobody will write to it: it ended, or went with an emptied Redis."""
        redis, keys = self._bus.redis, self._bus.keys
        if await self._bus.patiently(lambda: redis.exists(keys.events(topic))):
            return False
        known, final = await self._bus.patiently(lambda: redis.hmget(keys.record(topic), "v", "final"))
        return known is None or final == b"1"

    def _rendered(self, entry: Entry) -> list[bytes]:
        """The pieces of a topic's entry behind `id: <launch part>`: made once for all followers."""
        if (made := entry.rendered.get(self._form)) is None:
            made = []
            for number, event in enumerate(entry.events, start=1):
                data = self._render(event, True)
                made.append(
                    b"~%s.%d\ndata: %s\n\n" % (entry.id.encode(), number, data)
                    if data is not None
                    else b"~%s.%d\n\n" % (entry.id.encode(), number)
                )
            entry.rendered[self._form] = made
        return made

    def _gap(self, prefix: bytes, entry: Entry, lines: int) -> Piece:
        event: dict[str, Any] = {"phase": "gap", "message": f"{lines or 'Some'} lines are missing here.\n"}
        if lines:
            event["lines"] = lines
        data = self._render(event, True)
        before = entry.id.encode()
        return Piece(b"%s~%s.0\ndata: %s\n\n" % (prefix, before, data) if data else b"")
