"""Stored nouns: creating, reading and writing them. Every write is one script that compares epoch and claim first."""

import asyncio
import contextlib
import itertools
import json
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from prometheus_client import Counter
from redis.asyncio import Redis

from services.common.models import Build, Contract, Event, Launch, ResolvedRepo, Server, Visibility
from services.common.redis.client import REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Keys, Topic
from services.common.redis.scripts import ScriptCall, Scripts, run_together
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.entries import Entry, encode_events

log = get_logger(__name__)

FENCED = Counter("bindery_fenced_total", "Writes refused because another process owns the noun by now", ["kind"])

M = TypeVar("M", bound=Contract)
Entity = Build | Launch | Server


BOOKKEEPING = frozenset(
    {
        "v", "epoch", "claim", "owner", "seq", "last", "lines", "bytes", "live", "head", "final",
        "seen", "cancel", "cancel_code", "given_up",
    }
)  # fmt: skip
"""Fields that the scripts keep, or that others than the owner write."""


RECENT_BYTES = 256 * 1024
"""How much of its last entries an owner keeps, to write them again where Redis loses its last second."""


class Fenced(Exception):
    """Another process owns this noun by now: stop, and touch nothing."""


class RecordLost(Exception):
    """Redis does not know this noun any more: it was emptied."""


@dataclass(frozen=True)
class StoredRecord:
    """A noun as it lies in Redis: its fields, by name."""

    topic: Topic
    fields: Mapping[str, str]

    @classmethod
    def of(cls, topic: Topic, raw: Mapping[bytes, bytes] | Sequence[bytes]) -> "StoredRecord":
        if not isinstance(raw, Mapping):
            raw = dict(zip(raw[::2], raw[1::2], strict=True))
        return cls(topic, {k.decode(): v.decode() for k, v in raw.items()})

    def model(self, kind: type[M]) -> M:
        """The noun itself. `state` may be ahead of the body: scripts change only that."""
        body = json.loads(self.fields["body"])
        if "state" in self.fields:
            body["state"] = self.fields["state"]
        return kind.model_validate(body)

    def get(self, name: str, default: str = "") -> str:
        return self.fields.get(name, default)

    @property
    def epoch(self) -> int:
        return int(self.fields.get("epoch", "0"))


def is_public(build: StoredRecord) -> bool:
    """Whether a build's record says that its repository is everybody's to read. One that does not say so is not."""
    repo = build.get("repo")
    return bool(repo) and ResolvedRepo.model_validate_json(repo).visibility is Visibility.PUBLIC


class AppendedEntry(NamedTuple):
    """One entry that was appended: its number, its position, the lines before it and in it."""

    number: int
    position: str
    before: int
    lines: int
    payload: str


class PendingWrite(NamedTuple):
    """One write under its number: fields, entries, and how long the noun is kept if it ends it ('' while it lives)."""

    number: int
    values: Mapping[str, str | int | float]
    entries: list[AppendedEntry]
    until: str


@dataclass
class OwnedRecord:
    """A noun that this process owns. Writes go through here, one after the other, each safe to repeat."""

    records: "Records"
    topic: Topic
    process: str
    epoch: int
    claim: str
    seq: int = 1
    lines: int = 1
    """Events written so far, whether or not Redis still has them."""
    rewrite_if_missing: bool = False
    """Write the record anew where an emptied Redis lost it, instead of raising `RecordLost`."""
    acknowledged: int = 1
    """The number of the last write that Redis confirmed."""
    kept: dict[str, str | int | float] = field(default_factory=dict)
    """Every field as it was last written: what a record is written anew from."""
    recent: deque[AppendedEntry] = field(default_factory=deque)
    """The last entries, for a Redis that has lost its last second."""
    has_ended: bool = False
    """Whether Redis has confirmed a final write, also where its writer was cancelled meanwhile."""
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _doubtful: PendingWrite | None = None
    """The write that is under way, or whose answer never came: Redis may have carried it out."""

    async def write(
        self,
        *events: Event | Mapping[str, Any],
        body: Entity | None = None,
        fields: Mapping[str, str | int | float] | None = None,
        final: bool = False,
        release: bool = False,
    ) -> None:
        """Change the noun and append its events in one step; waits for a Redis that is away.

        `final` ends the noun; `release` leaves it without an owner, for who is due next. Where Redis has lost what it
        had confirmed, that is written again, under the positions that followers know.

        A cancel takes effect when Redis has answered, or has not for `settle_seconds`; a second one at once. A write
        without an answer is repeated before the next one, whose lines would be counted from the wrong number else.

        Raises `Fenced` when another process owns the noun, `RecordLost` when Redis was emptied.
        """
        values: dict[str, str | int | float] = dict(fields or {})
        if body is not None:
            values |= {"body": body.model_dump_json(exclude_none=True), "state": body.state}
        until = str(self.records.ttl_ms) if final else "release" if release else ""
        async with self._order:
            if self._doubtful:
                await self._see_through(self._doubtful)
            self.seq += 1
            self.kept |= values
            payload = encode_events(events) if events else ""
            entries = [AppendedEntry(self.seq, "*", self.lines, len(events), payload)] if events else []
            self._doubtful = PendingWrite(self.seq, values, entries, until)
            await self._see_through(self._doubtful)

    async def _see_through(self, write: PendingWrite) -> None:
        """Carry a write out, and hear what became of it even if the caller is cancelled meanwhile."""
        task = asyncio.create_task(self._carry_out(write), name=f"write {self._noun}")
        task.add_done_callback(_ignore_error)  # it is raised to who waits, if somebody does
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({task}, timeout=self.records.settle_seconds)
            finally:
                if not task.cancel() and not task.cancelled() and not task.exception():
                    with contextlib.suppress(Fenced, RecordLost):
                        self._answered(write, *task.result())
            raise
        except Exception as error:
            if not isinstance(error, REDIS_UNAVAILABLE):
                self._doubtful = None  # refused: there is no doubt
            raise
        self._answered(write, *answer)

    async def _carry_out(self, write: PendingWrite) -> list[Any]:
        status, detail, *before = await self._run(write)
        if status == b"behind" or (status == b"missing" and self.rewrite_if_missing):
            lost = [written for written in self.recent if written.number > int(before[0])]
            log.warning("written_again", noun=self._noun, entries=len(lost), was=status.decode())
            again = write._replace(values=self.kept, entries=lost + write.entries)
            status, detail, *before = await self._run(again, restore=True)
        return [status, detail, *before]

    def _answered(self, write: PendingWrite, status: bytes, detail: bytes, *before: Any) -> None:
        """Redis has answered to a write. Raises `Fenced` and `RecordLost`.

        This runs in the caller's own turn: who hears of the write finds what the caller made of it.
        """
        self._doubtful = None
        if status != b"ok" or write.until:
            self.records.let_go(self)
        if status == b"ok":
            self.has_ended = self.has_ended or write.until not in {"", "release"}
            self._confirmed(write, detail, *before[1:])
            return
        if status == b"missing":
            raise RecordLost(self._noun)
        FENCED.labels(self.topic.kind).inc()
        log.warning("fenced", noun=self._noun, epoch=self.epoch, found=detail.decode())
        raise Fenced(self._noun)

    def _confirmed(self, write: PendingWrite, position: bytes, *before: bytes) -> None:
        self.acknowledged = write.number
        for entry in write.entries:
            self.lines += entry.lines
            self.recent.append(entry._replace(position=position.decode()))
            self.records.bus.publish_local(self.topic, position, write.number, entry.payload, *before)
        while sum(len(entry.payload) for entry in self.recent) > RECENT_BYTES:
            self.recent.popleft()

    @property
    def _noun(self) -> str:
        return f"{self.topic.kind}:{self.topic.id}"

    async def _run(self, write: PendingWrite, *, restore: bool = False) -> Any:
        records, keys, entries = self.records, self.records.keys, write.entries
        args: list[Any] = [
            self.epoch, self.claim, write.number, keys.news(self.topic), self._noun, self.process, int(restore),
            write.until, records.max_bytes, self.acknowledged, entries[0].before if entries else self.lines,
            len(write.values), *(part for pair in write.values.items() for part in pair),
            len(entries), *(part for one in entries for part in (one.number, one.position, one.lines, one.payload)),
        ]  # fmt: skip
        names = [keys.record(self.topic), keys.events(self.topic), keys.owned(self.process)]
        return await retry_while_unavailable(
            lambda: records.scripts.run("write", names, args), seconds=records.patience_seconds
        )


def _ignore_error(task: asyncio.Task[list[Any]]) -> None:
    if not task.cancelled():
        task.exception()


class Records:
    """The nouns of one kind of process: reading any, creating and claiming its own."""

    def __init__(self, redis: Redis, keys: Keys, bus: Bus, settings: ServiceSettings) -> None:
        self.redis = redis
        self.keys = keys
        self.bus = bus
        self.scripts = Scripts(redis, "services.common.records.scripts")
        self.ttl_ms = int(settings.record_ttl_seconds * 1000)
        self.max_bytes = settings.stream_max_bytes
        self.patience_seconds = settings.redis_patience_seconds
        self.reread_seconds = settings.reread_seconds
        self.settle_seconds = settings.redis_timeout_seconds / 2  # who hands over has time left for that
        self._claims: dict[Topic, OwnedRecord] = {}

    def _hold(self, claimed: OwnedRecord) -> OwnedRecord:
        self._claims[claimed.topic] = claimed
        return claimed

    def let_go(self, claimed: OwnedRecord) -> None:
        """This process does not own a noun any more, by this claim."""
        if self._claims.get(claimed.topic) is claimed:
            del self._claims[claimed.topic]

    def forget(self, topic: Topic) -> None:
        """Nothing is done here any more for a noun, whoever owns it now."""
        self._claims.pop(topic, None)

    async def probe_fences(self) -> None:
        """Write to each noun that was owned here, after the lease was lost: who owns it now has it refused, counted."""
        for claimed in list(self._claims.values()):
            with contextlib.suppress(Fenced, RecordLost):
                await claimed.write()

    async def rewrite(self, *topics: Topic) -> None:
        """After Redis was emptied: write the records anew that this process owns, where their owners want that."""
        for claimed in list(self._claims.values()):
            if claimed.rewrite_if_missing and (not topics or claimed.topic in topics):
                with contextlib.suppress(Fenced):
                    await claimed.write()

    async def read(self, topic: Topic) -> StoredRecord | None:
        """The noun, or None where there is none."""
        raw = await retry_while_unavailable(
            lambda: self.redis.hgetall(self.keys.record(topic)), seconds=self.patience_seconds
        )
        return StoredRecord.of(topic, raw) if raw else None

    async def set_field(self, topic: Topic, name: str, value: str) -> bool:
        """Set a field that others than the owner write. False where there is no such noun: none is begun by this."""
        return bool(await self.scripts.run("note", [self.keys.record(topic)], [name, value]))

    async def create(
        self,
        topic: Topic,
        body: Entity,
        event: Event,
        *,
        process: str,
        fields: Mapping[str, str] | None = None,
        idempotency: tuple[str, str, int] = ("", "", 0),
        rewrite_if_missing: bool = False,
        piggyback: Sequence[ScriptCall] = (),
    ) -> "tuple[OwnedRecord | StoredRecord | str, list[Any]]":
        """Create a noun and own it; an existing one comes back as `Stored`, a known key as the value kept with it.

        `idempotency` is key, value and milliseconds. The scripts in `piggyback` run in the same round trip; their
        answers come second.
        Waits for a Redis that is away: the claim makes it safe to repeat, and a noun that was created by
        a call whose reply was lost would have an owner who knows nothing of it.
        """
        values = {"body": body.model_dump_json(exclude_none=True), "state": body.state} | dict(fields or {})
        claim = secrets.token_hex(8)
        payload = encode_events([event])
        key, value, lasting_ms = idempotency
        args: list[Any] = [
            f"{topic.kind}:{topic.id}", process, claim, self.keys.news(topic), value, lasting_ms,
            len(values), *(part for pair in values.items() for part in pair), 1, payload,
        ]  # fmt: skip
        keys = [
            self.keys.record(topic), self.keys.events(topic), self.keys.owned(process),
            self.keys.alive(process), self.keys.processes(process.partition("-")[0]), *([key] if key else []),
        ]  # fmt: skip
        (status, detail), *others = await retry_while_unavailable(
            lambda: run_together(self.redis, [ScriptCall(self.scripts, "create", keys, args), *piggyback]),
            seconds=self.patience_seconds,
        )
        if status == b"known":
            return str(detail.decode()), others
        if status == b"exists":
            return StoredRecord.of(topic, detail), others
        self.bus.open_local(topic, Entry.first(detail.decode(), payload.encode()))
        first = AppendedEntry(1, detail.decode(), 0, 1, payload)
        claimed = OwnedRecord(
            self, topic, process, 1, claim,
            rewrite_if_missing=rewrite_if_missing, kept=dict(values), recent=deque([first]),
        )  # fmt: skip
        return self._hold(claimed), others

    async def adopt(
        self,
        context: str,
        process: str,
        *,
        topic: Topic | None = None,
        epoch: int | None = None,
        rewrite_if_missing: bool = False,
    ) -> tuple[OwnedRecord, StoredRecord] | None:
        """Claim an orphan of a stage, or the noun named (at `epoch`, where one is given); None where there is none.

        Waits for a Redis that is away. A repeated call finds what the one before it claimed: else a lost reply would
        leave a noun with an owner who knows nothing of it.
        """
        claim = secrets.token_hex(8)
        noun = f"{topic.kind}:{topic.id}" if topic else ""
        args = [process, claim, self.keys.prefix, noun, "" if epoch is None else epoch]
        keys = [self.keys.orphans(context), self.keys.owned(process), self.keys.alive(process)]
        calls = itertools.count()
        answer = await retry_while_unavailable(
            lambda: self.scripts.run("adopt", keys, [*args, int(next(calls) > 0)]), seconds=self.patience_seconds
        )
        if answer[0] != b"claimed":
            return None
        kind, _, name = answer[1].decode().partition(":")
        found = StoredRecord.of(Topic(kind, name), answer[3])
        # Numbers jump, so that they stay above any that Redis lost in a crash and followers have seen.
        written = int(found.get("seq", "1"))
        kept = {name: value for name, value in found.fields.items() if name not in BOOKKEEPING}
        claimed = OwnedRecord(
            self, found.topic, process, int(answer[2]), claim, seq=written + 1000, acknowledged=written,
            lines=int(found.get("lines", "0")), rewrite_if_missing=rewrite_if_missing, kept=dict(kept),
        )  # fmt: skip
        return self._hold(claimed), found
