"""A record that this process owns, and the numbered writes by which alone it may change it.

Each write carries a number, one above the last, and Redis applies a number once: so a write whose reply was lost can
be repeated. The owner remembers all fields and its last entries, because Redis may come back without its last second
(`behind`) or without anything (`missing`); the next write then brings back what was lost.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Self

from prometheus_client import Counter
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import Event
from services.common.records.store import RecordStore
from services.common.records.stored_record import Entity, FieldValue
from services.common.redis.client import REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Topic, service_of
from services.common.redis.scripts import ScriptArg
from services.common.service.logging import get_logger
from services.common.streams.entries import StreamEvent, encode_events

log = get_logger(__name__)

FENCED = Counter("bindery_fenced_total", "Writes refused because another process owns the record by now", ["kind"])

RECENT_BYTES = 256 * 1024
"""Payload of the last entries that an owner remembers, to write them again if Redis loses its last second."""


class NoLease(RedisConnectionError):  # type: ignore[misc]  # redis-py is read as untyped
    """This process has no lease, so it may own nothing. It takes its lease again as soon as Redis answers."""


class Fenced(Exception):
    """Another process owns the record by now: stop, and change nothing."""


class AppendedEntry(NamedTuple):
    """One entry of the record's event stream."""

    number: int
    """Number of the write that appended it."""
    position: str
    """Id in the stream; `*` until Redis has given one."""
    before: int
    """Events in all entries before it."""
    lines: int
    """Events in this entry."""
    payload: str


class Ending(Enum):
    """The ways in which a write ends its owner's claim."""

    FINAL = "final"
    """The record never changes again, and expires."""
    RELEASE = "release"
    """The record is left without an owner, for the next process to claim."""


class PendingWrite(NamedTuple):
    """One numbered write: the fields to set and the entries to append."""

    number: int
    values: Mapping[str, FieldValue]
    entries: list[AppendedEntry]
    ending: Ending | None
    """None if the owner keeps the record."""


@dataclass(kw_only=True)
class OwnedRecord:
    """A record that this process owns. Its writes run one after the other, and each may safely be repeated."""

    store: RecordStore
    on_claim_ended: Callable[[Self], None]
    """Called once Redis no longer accepts writes of this claim."""
    topic: Topic
    process: str
    epoch: int
    claim: str
    """Random word of this claim: tells two claims of one epoch apart after a lost reply."""
    is_adopted: bool = False
    """Whether the record was there before this claim."""
    seq: int = 1
    """Number of the last write that was begun."""
    confirmed_seq: int = 1
    """Number of the last write that Redis confirmed."""
    lines: int = 1
    """Events written so far, whether or not Redis still has them."""
    fields: dict[str, FieldValue] = field(default_factory=dict)
    """Every field as it was last written: all that is needed to write the record a second time."""
    recent_entries: deque[AppendedEntry] = field(default_factory=deque)
    """Last entries, at most `RECENT_BYTES` of them."""
    has_ended: bool = False
    """Whether Redis has confirmed a final write, even if the task that wrote it was cancelled meanwhile."""
    is_claimed: bool = True
    """Whether Redis still accepts writes of this claim, as far as is known here."""

    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unconfirmed: PendingWrite | None = None
    """Write in flight, or without a reply: Redis may or may not have applied it."""

    async def write(
        self,
        *events: Event | StreamEvent,
        body: Entity | None = None,
        fields: Mapping[str, FieldValue] | None = None,
        final: bool = False,
        release: bool = False,
    ) -> None:
        """Change the record and append its events in one step, waiting for Redis while it is unavailable.

        `final` ends the record. `release` leaves it without an owner, for the next process to claim. If Redis has
        lost writes that it had confirmed, or the record itself, they are written again under the positions that
        followers know.

        If cancelled, waits up to `settle_seconds` for the reply, unless cancelled a second time. A write without a
        reply is repeated before the next one, so that line numbers stay correct.

        Raise `Fenced` if another process owns the record.
        """
        values: dict[str, FieldValue] = dict(fields or {})
        if body is not None:
            values |= {"body": body.model_dump_json(exclude_none=True), "state": body.state}

        ending: Ending | None = None
        if final:
            ending = Ending.FINAL
        elif release:
            ending = Ending.RELEASE

        async with self._order:
            if self._unconfirmed:
                await self._write_through_cancel(self._unconfirmed)
            await self._write_next(values, events, ending)

    async def restore(self) -> None:
        """Write again what Redis has lost of the record, if anything; do nothing once the claim has ended.

        Raise `Fenced` if another process owns the record.
        """
        async with self._order:
            if self._unconfirmed:
                await self._write_through_cancel(self._unconfirmed)
            if self.is_claimed:
                await self._write_next({}, (), None)

    async def _write_next(
        self, values: Mapping[str, FieldValue], events: Sequence[Event | StreamEvent], ending: Ending | None
    ) -> None:
        self.seq += 1
        self.fields |= values
        entries: list[AppendedEntry] = []
        if events:
            entries.append(AppendedEntry(self.seq, "*", self.lines, len(events), encode_events(events)))
        self._unconfirmed = PendingWrite(self.seq, values, entries, ending)
        await self._write_through_cancel(self._unconfirmed)

    async def _write_through_cancel(self, write: PendingWrite) -> None:
        """Run a write, and take note of its reply even if the caller is cancelled meanwhile."""
        task = asyncio.create_task(self._write_after_data_loss(write), name=f"write {self.topic.name}")
        task.add_done_callback(_ignore_error)  # the caller gets the error, unless it was cancelled

        try:
            reply = await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({task}, timeout=self.store.settle_seconds)
            finally:
                task.cancel()
                if _has_reply(task):  # it was done before the cancel, which therefore had no effect
                    with contextlib.suppress(Fenced):
                        self._on_reply(write, *task.result())
            raise
        except Exception as error:
            if not isinstance(error, REDIS_UNAVAILABLE):
                self._unconfirmed = None  # Redis refused it, so it was not applied
            raise

        self._on_reply(write, *reply)

    async def _write_after_data_loss(self, write: PendingWrite) -> list[Any]:
        """Run a write; if Redis has lost earlier ones, run it again together with those."""
        status, detail, *numbers = await self._call_write_script(write)

        if status in {b"behind", b"missing"}:
            lost_entries = [entry for entry in self.recent_entries if entry.number > int(numbers[0])]
            log.warning("written_again", noun=self.topic.name, entries=len(lost_entries), was=status.decode())
            whole = write._replace(values=self.fields, entries=lost_entries + write.entries)
            status, detail, *numbers = await self._call_write_script(whole, restore=True)

        return [status, detail, *numbers]

    def _on_reply(self, write: PendingWrite, status: bytes, detail: bytes, *numbers: Any) -> None:
        """Take note of the reply to a write. Raise `Fenced` unless it was applied.

        This runs in the caller's own turn, so that followers of the write find what the caller made of it.
        """
        self._unconfirmed = None
        if status == b"ok":
            self.has_ended = self.has_ended or write.ending is Ending.FINAL
            self._on_confirmed(write, detail, *numbers[1:])
        if status != b"ok" or write.ending:
            self.is_claimed = False
            self.on_claim_ended(self)

        if status == b"ok":
            return

        FENCED.labels(self.topic.kind).inc()
        log.warning("fenced", noun=self.topic.name, epoch=self.epoch, found=detail.decode())
        raise Fenced(self.topic.name)

    def _on_confirmed(self, write: PendingWrite, position: bytes, *before: bytes) -> None:
        self.confirmed_seq = write.number

        for entry in write.entries:
            self.lines += entry.lines
            self.recent_entries.append(entry._replace(position=position.decode()))
            self.store.bus.publish_local(self.topic, position, write.number, entry.payload, *before)

        while sum(len(entry.payload) for entry in self.recent_entries) > RECENT_BYTES:
            self.recent_entries.popleft()

    async def _call_write_script(self, write: PendingWrite, *, restore: bool = False) -> Any:
        """Run the script `write`; its header names these arguments in this order."""
        store = self.store
        keys = store.keys
        fields = [part for pair in write.values.items() for part in pair]
        entries = [
            part for entry in write.entries for part in (entry.number, entry.position, entry.lines, entry.payload)
        ]
        lines_before = write.entries[0].before if write.entries else self.lines
        ending_arg = {None: "", Ending.RELEASE: "release", Ending.FINAL: str(store.ttl_ms)}[write.ending]

        args: list[ScriptArg] = [
            self.epoch, self.claim, write.number, keys.news(self.topic), self.topic.name, self.process, int(restore),
            ending_arg, store.max_bytes, self.confirmed_seq, lines_before,
            len(write.values), *fields,
            len(write.entries), *entries,
        ]  # fmt: skip
        names = [
            keys.record(self.topic), keys.events(self.topic), keys.owned(self.process),
            keys.alive(self.process), keys.processes(service_of(self.process)),
        ]  # fmt: skip

        async def run_once() -> Any:
            reply = await store.scripts.run("write", names, args)
            if reply[0] == b"no lease":
                raise NoLease(self.process)
            return reply

        return await retry_while_unavailable(run_once, seconds=store.patience_seconds)


def _has_reply(task: asyncio.Task[list[Any]]) -> bool:
    """Return whether a write's task has a result: it is neither running nor cancelled, and has not failed."""
    return task.done() and not task.cancelled() and task.exception() is None


def _ignore_error(task: asyncio.Task[list[Any]]) -> None:
    if not task.cancelled():
        task.exception()
