"""One topic as bytes for one follower, from any position on: what is live, what was stored, and what is missing.

A position in a topic is `<entry>.<number of events of it that were delivered>`.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from services.common.redis.keys import Kind, Topic
from services.common.streams.bus import Bus
from services.common.streams.entries import STREAM_START, Entry, position_key
from services.common.streams.log_store import LogStore
from services.common.streams.queue_positions import QueuePosition, QueuePositions, WatchedBuild
from services.common.streams.reader import Reader

Render = Callable[[dict[str, Any], bool], bytes | None]
"""The bytes of one event's `data:` in a format, or None where the format leaves it out. The flag: it stands in a
topic that is spliced into another."""

HIDDEN = frozenset({"terminal", "opens", "v"})
"""Fields of events that are for us alone."""


def render_plain(event: dict[str, Any], _is_spliced: bool) -> bytes:
    """An event as it is, in the format of v1."""
    return json.dumps({name: value for name, value in event.items() if name not in HIDDEN}).encode()


PIECE_BYTES = 64 * 1024
"""A piece grows no further than by the entry that takes it past this size."""

_POSITION = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?(?:\.(\d{1,20}))?", re.ASCII)
_LAST = 2**64 - 1
"""The largest number of a Redis stream id."""


class Listener(Protocol):
    """Who follows a stream: `news` is called when there is more; the stream clears `has_news` before it looks."""

    has_news: bool

    def news(self) -> None: ...


class AwaitableListener:
    """A listener that is waited on."""

    def __init__(self) -> None:
        self.has_news = True
        self._news = asyncio.Event()

    def news(self) -> None:
        """There is more."""
        self.has_news = True
        self._news.set()

    async def wait(self) -> None:
        """Wait for news."""
        await self._news.wait()
        self._news.clear()


def split_position(text: str) -> tuple[str, int]:
    """Entry and number of events. Raises `ValueError` for what no stream can have."""
    if (found := _POSITION.fullmatch(text)) is None:
        raise ValueError(text)
    ms, seq, events = (int(part or 0) for part in found.groups())
    if max(ms, seq, events) >= _LAST:
        raise ValueError(text)
    return f"{ms}-{seq}", events


def position_before(entry: str) -> str:
    """The position right before an entry's."""
    ms, seq = position_key(entry)
    if not ms and not seq:
        return STREAM_START
    return f"{ms}-{seq - 1}" if seq else f"{ms - 1}-{_LAST}"


def resume_point(name: str, event_id: str) -> tuple[str, int] | None:
    """Where to go on in the stream of the topic `name` behind an `id:` of it; None for what is no such id."""
    topic, _, position = event_id.strip().partition("~")
    try:
        entry, events = split_position(position)
    except ValueError:
        return None
    if topic != name:
        return None
    return (entry, events) if events else (position_before(entry), 0)


class TopicStream:
    """Follows one topic for one client. Each event has the id `<prefix>~<position>`.

    `owner` is the reader of the launch that the topic is spliced into, and `opened_by` the entry of it that opened the
    topic: when the owner has ended without the topic, that is over too. Without an owner the topic stands for itself,
    and who resumes after its end is told the end again. `places` are told while the topic's build is queued.
    """

    def __init__(
        self,
        bus: Bus,
        logs: LogStore,
        topic: Topic,
        form: str,
        render: Render,
        *,
        prefix: str,
        places: QueuePositions | None = None,
        owner: Reader | None = None,
        opened_by: str = "",
    ) -> None:
        self._bus, self._logs, self._topic = bus, logs, topic
        self._form, self._render, self._prefix = form, render, f"id: {prefix}".encode()
        self._places = places if topic.kind is Kind.BUILD else None
        self._owner, self._opened_by = owner, opened_by

    async def chunks(
        self, listener: Listener, after: str = STREAM_START, skip: int = 0
    ) -> AsyncGenerator[bytes | None, None]:
        """What there is, chunk by chunk; None when there is nothing more yet: wait for news, and go on.

        Begins behind entry `after`, or, with `skip`, behind so many events of it.
        """
        topic, prefix = self._topic, self._prefix
        async with self._bus.follow(topic, listener.news) as reader:
            with contextlib.closing(_ShownPlace(self._places, reader, listener)) as place:
                at, first, last_look = after, True, False
                expected: int | None = 0 if after == STREAM_START else None
                while True:
                    listener.has_news = False
                    entries = await self._entries(reader, at, skip if first else 0)
                    if first and skip and entries and entries[0].id != at and await self._misses(at, entries[0]):
                        yield self._gap(entries[0], 0)
                    together: list[bytes] = []  # what is new goes out in one piece
                    size = 0
                    for entry in entries:
                        done = skip if first and entry.id == at else 0
                        if self._owner is None and entry.is_terminal:
                            done = min(done, len(entry.events) - 1)
                        if expected is not None and entry.lines > expected and not done:
                            if together:
                                yield prefix + prefix.join(together)
                                together, size = [], 0
                            yield self._gap(entry, entry.lines - expected)
                        elif expected is not None and topic.kind is Kind.BUILD:
                            # Redis had lost its last second, and who adopted the build has told those lines again.
                            done = max(done, entry.already_delivered(expected))
                        expected = max(expected or 0, entry.lines + len(entry.events))
                        together += self._rendered(entry)[done:] if done else self._rendered(entry)
                        size += len(entry.payload)
                        at = entry.id
                        if together and (size > PIECE_BYTES or entry.is_terminal or entry is entries[-1]):
                            yield prefix + prefix.join(together)
                            together, size = [], 0
                        if entry.is_terminal:
                            return
                    first = first and not entries
                    doubtful = not entries and (self._owner_went_on() or not reader.entries)
                    if last_look or (doubtful and await self._is_over()):
                        return
                    if last_look := self._owner_has_ended(reader):
                        await reader.read()  # what the topic had said before the launch ended may still be on its way
                        continue
                    if (new := place.new()) is not None:
                        yield self._placed(new)
                    yield None

    async def _entries(self, reader: Reader, at: str, skip: int) -> list[Entry]:
        if skip:
            at = position_before(at)
        found = await reader.after(at)
        if not found and self._topic.kind is Kind.BUILD and not reader.entries:
            return await self._logs.read(self._topic.id, at) or []
        if not found and self._owner is None and reader.ended and reader.last:
            return [reader.last]  # the position stands behind the end
        return found

    async def _misses(self, at: str, entry: Entry) -> bool:
        """Whether lines before `entry` are gone, for who stands at `at`, an entry that is gone itself."""
        redis, key = self._bus.redis, self._bus.keys.events(self._topic)
        found = await self._bus.retry_while_unavailable(lambda: redis.xrevrange(key, max=f"({at}", count=1))
        before = Entry.stored(found[0]) if found else None
        return entry.lines > (before.lines + len(before.events) if before else 0)

    def _owner_went_on(self) -> bool:
        return self._owner is not None and self._owner.last is not None and self._owner.last.id != self._opened_by

    def _owner_has_ended(self, reader: Reader) -> bool:
        """The launch was cancelled, or failed by itself: what the topic still says is no longer waited for."""
        last = self._owner.last if self._owner else None
        return last is not None and last.is_terminal and not reader.ended

    async def _is_over(self) -> bool:
        """The topic's stream is gone, and nobody will write to it: it ended, or went with an emptied Redis."""
        redis, keys = self._bus.redis, self._bus.keys
        if await self._bus.retry_while_unavailable(lambda: redis.exists(keys.events(self._topic))):
            return False
        known, final = await self._bus.retry_while_unavailable(
            lambda: redis.hmget(keys.record(self._topic), "v", "final")
        )
        return known is None or final == b"1"

    def _rendered(self, entry: Entry) -> list[bytes]:
        """The pieces of an entry behind the prefix: made once for all followers."""
        if (made := entry.rendered.get(self._form)) is None:
            made = []
            for number, event in enumerate(entry.events, start=1):
                data = self._render(event, self._owner is not None)
                made.append(
                    b"~%s.%d\ndata: %s\n\n" % (entry.id.encode(), number, data)
                    if data is not None
                    else b"~%s.%d\n\n" % (entry.id.encode(), number)
                )
            entry.rendered[self._form] = made
        return made

    def _gap(self, entry: Entry, lines: int) -> bytes:
        event: dict[str, Any] = {"phase": "gap", "message": f"{lines or 'Some'} lines are missing here.\n"}
        if lines:
            event["lines"] = lines
        data = self._render(event, True)
        return b"%s~%s.0\ndata: %s\n\n" % (self._prefix, entry.id.encode(), data) if data else b""

    def _placed(self, place: QueuePosition) -> bytes:
        """A place in the queue, without an id: who resumes does so at the last event that is stored."""
        if (made := place.rendered.get(self._form)) is None:
            made = place.rendered[self._form] = b"data: %s\n\n" % (self._render(place.event, True) or b"{}")
        return made


class _ShownPlace:
    """The place that one follower was told last. The queue is watched only while the build has said but one thing:
    that it waits."""

    def __init__(self, places: QueuePositions | None, reader: Reader, listener: Listener) -> None:
        self._places, self._reader, self._listener = places, reader, listener
        self._watching = contextlib.ExitStack()
        self._watched: WatchedBuild | None = None
        self._told: QueuePosition | None = None

    def new(self) -> QueuePosition | None:
        """The build's place, where it is another than the follower was told."""
        last = self._reader.last
        if self._places is None or last is None or last.number > 1 or last.is_terminal:
            self.close()
            return None
        if self._watched is None:
            self._watched = self._watching.enter_context(
                self._places.watching(self._reader.topic.id, self._listener.news)
            )
        place = self._watched.place
        if place is None or place.waiting_for == "start" or place.same_as(self._told):
            return None
        self._told = place
        return place

    def close(self) -> None:
        """Watch the queue no more."""
        self._watching.close()
        self._watched = None
