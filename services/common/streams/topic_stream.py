"""One topic as bytes for one follower, from any position: its entries, and notes about lines that are missing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind, Topic
from services.common.streams.bus import Bus
from services.common.streams.cursor import Cursor
from services.common.streams.entries import Entry, StreamEvent, failed_event
from services.common.streams.event_format import EventFormat, block
from services.common.streams.log_store import LogStore
from services.common.streams.positions import STREAM_START, TOPIC_START, TopicPosition, position_key
from services.common.streams.queue_positions import QueuePosition, QueuePositions, QueueUpdates
from services.common.streams.reader import Reader

CHUNK_BYTES = 64 * 1024
"""A chunk ends with the entry that takes it past this size."""


class Listener(Protocol):
    """A follower of a stream: `notify` is called when there is more; the stream clears `has_news` before it reads."""

    has_news: bool

    def notify(self) -> None:
        """Tell the follower that there is more."""


class AwaitableListener:
    """A listener whose news can be awaited."""

    def __init__(self) -> None:
        self.has_news = True
        self._news = asyncio.Event()

    def notify(self) -> None:
        """End the wait."""
        self.has_news = True
        self._news.set()

    async def wait(self) -> None:
        """Wait until there is more."""
        await self._news.wait()
        self._news.clear()


class _ChunkBuffer:
    """The blocks of the next chunk, and the size of the payload from which they were rendered."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._blocks: list[bytes] = []
        self.size = 0

    def add(self, blocks: list[bytes], payload_bytes: int) -> None:
        """Append the blocks of one entry."""
        self._blocks += blocks
        self.size += payload_bytes

    def flush(self) -> bytes:
        """Return the chunk and begin another; without blocks, return nothing."""
        if not self._blocks:
            return b""
        chunk = self._prefix + self._prefix.join(self._blocks)
        self._blocks = []
        self.size = 0
        return chunk


class TopicStream:
    """Follows one topic for one client. Each event has the id `<prefix>~<position>`.

    A topic that is spliced into a launch has an `owner`, the launch's reader, and an `opening_entry`, the id of the
    launch's entry that opened it. A topic without an owner is followed by itself, and a client that resumes after its
    end receives the end again. `queue_positions` are sent while the topic's build is queued.

    The stream ends in one of these ways:

    | What happens | When the stream ends |
    | --- | --- |
    | the topic has a terminal entry | once that is delivered |
    | the owner ends without the topic: it failed, was cancelled or is lost | behind what the topic has by then |
    | the topic's stream is gone, and its record is final or gone too | at once, if nothing is left to deliver |
    | the topic's record is lost | once what is buffered is delivered; without an owner, with an event that says so |

    Redis is asked whether a stream is gone only if none of its entries is buffered or the next one can't be read, or if
    the owner has newer entries than the opening one.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        logs: LogStore,
        topic: Topic,
        form: EventFormat,
        prefix: str,
        queue_positions: QueuePositions | None = None,
        owner: Reader | None = None,
        opening_entry: str = "",
    ) -> None:
        self._bus = bus
        self._logs = logs
        self._topic = topic
        self._is_build = topic.kind is Kind.BUILD
        self._form = form
        self._prefix = f"id: {prefix}".encode()
        self._queue_positions = queue_positions if self._is_build else None
        self._owner = owner
        self._opening_entry = opening_entry

    async def chunks(
        self, listener: Listener, position: TopicPosition = TOPIC_START
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield chunks; yield None if the caller must wait for `notify` before it asks for more.

        They begin behind `position`, and end as the class says.
        """
        cursor = Cursor.at(position)
        ends_at: tuple[int, int] | None = (
            None  # set when the launch has ended without the topic: nothing beyond it counts
        )
        async with self._bus.follow(self._topic, listener.notify) as reader:
            with contextlib.closing(QueueUpdates(self._queue_positions, reader, listener.notify)) as queue:
                while True:
                    listener.has_news = False
                    entries = await self._entries(reader, cursor)
                    if entries and await self._lines_are_missing(cursor, entries[0]):
                        yield self._gap(entries[0], 0)
                    for chunk in self._chunks_of(entries, cursor):
                        yield chunk

                    is_behind = bool(entries) and reader.has_beyond(cursor.read_after)
                    has_reached_end = ends_at is not None and (not is_behind or position_key(cursor.entry) >= ends_at)
                    if has_reached_end or await self._has_ended(reader, cursor, entries):
                        if reader.is_lost and self._owner is None:
                            yield self._lost()
                        return
                    if is_behind:
                        continue
                    if self._owner_has_ended(reader):
                        await reader.read()  # the topic's last entries may be written, and not have arrived yet
                        ends_at = reader.last.key if reader.last else position_key(STREAM_START)
                        continue

                    if position_in_queue := queue.next_position():
                        yield self._queue_update(position_in_queue)
                    yield None

    # Which entries

    async def _entries(self, reader: Reader, cursor: Cursor) -> list[Entry]:
        """Return the entries to deliver next: from the reader, or from the log store once the stream is gone."""
        entries = await reader.after(cursor.read_after)
        if not entries and self._is_build and (not reader.entries or reader.has_beyond(cursor.read_after)):
            return await self._logs.read(self._topic.id, cursor.read_after) or []
        if not entries and self._owner is None and reader.has_ended and reader.last:
            return [reader.last]  # the client already has the end
        return entries

    async def _lines_are_missing(self, cursor: Cursor, entry: Entry) -> bool:
        """Return whether lines before `entry` are gone, for a client that resumes in an entry that is gone itself."""
        if not cursor.has_lost_entry(entry):
            return False

        key = self._bus.keys.events(self._topic)
        raw = await self._bus.retry_while_unavailable(
            lambda: self._bus.redis.xrevrange(key, max=f"({cursor.entry}", count=1)
        )
        before = Entry.stored(raw[0]) if raw else None
        return entry.lines > (before.lines + len(before.events) if before else 0)

    # When it ends

    async def _has_ended(self, reader: Reader, cursor: Cursor, entries: list[Entry]) -> bool:
        """Return whether the entries were the last ones."""
        if cursor.has_ended:
            return True
        if reader.is_lost and not entries:
            return True

        may_be_gone = not reader.entries or reader.has_beyond(cursor.read_after) or self._owner_has_newer_entries()
        return not entries and may_be_gone and await self._is_gone()

    def _owner_has_newer_entries(self) -> bool:
        """Return whether the launch has written more since it opened the topic."""
        return self._owner is not None and self._owner.last is not None and self._owner.last.id != self._opening_entry

    def _owner_has_ended(self, reader: Reader) -> bool:
        """Return whether the launch ended before the topic: it was cancelled, failed by itself, or is lost."""
        if self._owner is None or reader.has_ended:
            return False
        last = self._owner.last
        return self._owner.is_lost or (last is not None and last.is_terminal)

    async def _is_gone(self) -> bool:
        """Return whether the stream does not exist and will not: the topic has ended, or Redis has lost it."""
        redis = self._bus.redis
        keys = self._bus.keys
        if await self._bus.retry_while_unavailable(lambda: redis.exists(keys.events(self._topic))):
            return False
        version, final = await self._bus.retry_while_unavailable(
            lambda: redis.hmget(keys.record(self._topic), "v", "final")
        )
        return version is None or final == b"1"

    # As bytes

    def _chunks_of(self, entries: list[Entry], cursor: Cursor) -> Iterator[bytes]:
        """Yield entries in chunks of about `CHUNK_BYTES`, with notes about missing lines, and move the cursor."""
        buffer = _ChunkBuffer(self._prefix)
        for entry in entries:
            delivered_count = self._delivered_events(entry, cursor)
            missing_lines = cursor.missing_lines(entry)
            if missing_lines and not delivered_count:
                if chunk := buffer.flush():
                    yield chunk
                yield self._gap(entry, missing_lines)

            blocks = self._rendered(entry)
            if delivered_count:
                blocks = blocks[delivered_count:]
            buffer.add(blocks, len(entry.payload))
            cursor.move_behind(entry)

            is_full = buffer.size > CHUNK_BYTES
            if (is_full or cursor.has_ended or entry is entries[-1]) and (chunk := buffer.flush()):
                yield chunk
            if cursor.has_ended:  # the topic of a server may have more: the end of one that was ready before
                return

    def _delivered_events(self, entry: Entry, cursor: Cursor) -> int:
        """Return how many of an entry's events the client has."""
        delivered_count = cursor.delivered_events(entry)
        if self._owner is None and entry.is_terminal:
            delivered_count = min(delivered_count, len(entry.events) - 1)
        if self._is_build:
            delivered_count = max(delivered_count, cursor.repeated_events(entry))
        return delivered_count

    def _rendered(self, entry: Entry) -> list[bytes]:
        """Return the blocks of an entry's events, without the prefix of their ids: made once for all followers."""
        rendered = entry.rendered.get(self._form.name)
        if rendered is None:
            rendered = [
                block(b"~%s.%d\n" % (entry.id.encode(), number), self._form.render(event, self._owner is not None))
                for number, event in enumerate(entry.events, start=1)
            ]
            entry.rendered[self._form.name] = rendered
        return rendered

    def _gap(self, entry: Entry, lines: int) -> bytes:
        """Return a note that lines are missing before an entry; `lines` is 0 if their number is unknown."""
        event: StreamEvent = {"phase": "gap", "message": f"{lines or 'Some'} lines are missing here.\n"}
        if lines:
            event["lines"] = lines
        data = self._form.render(event, True)
        return block(b"%s~%s.0\n" % (self._prefix, entry.id.encode()), data) if data else b""

    def _lost(self) -> bytes:
        """Return the event that says that the topic is lost, without an id: nothing of it is stored."""
        return block(b"", self._form.render(failed_event(BinderyError("build_lost").problem), False))

    def _queue_update(self, position: QueuePosition) -> bytes:
        """Return a queue position without an id, so that a client resumes at the last event that is stored."""
        rendered = position.rendered.get(self._form.name)
        if rendered is None:
            rendered = block(b"", self._form.render(position.event, True) or b"{}")
            position.rendered[self._form.name] = rendered
        return rendered
