"""Records of builds, launches and servers: reading any of them, creating new ones, adopting orphans.

Who may write is decided in Redis: each write is one script, which first compares the record's epoch and claim.
"""

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.common.models import Event
from services.common.records.adoption import SEQ_JUMP, ClaimedOrphan, Orphans
from services.common.records.owned_record import AppendedEntry, Fenced, NoLease, OwnedRecord
from services.common.records.store import RecordStore
from services.common.records.stored_record import Entity, FieldValue, RecordUnreadable, StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Keys, Topic, service_of
from services.common.redis.scripts import ScriptArg, ScriptCall, ScriptReply, run_together
from services.common.redis.wrong_type import is_wrong_type
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.entries import Entry, encode_events


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A key in Redis under which a value is stored when a record is created; while it exists, it prevents another."""

    key: str
    value: str
    ttl_ms: int


@dataclass(frozen=True)
class EarlierCreation:
    """The reason why no record was created: an earlier creation has stored `value` under the same idempotency key."""

    value: str


class ProcessLeaves(Exception):
    """This process has handed over what it owned, as it is about to end, and may own nothing any more."""


class Records(RecordStore):
    """The records of one installation, and the claims that this process holds on some of them."""

    def __init__(self, redis: Redis, keys: Keys, *, bus: Bus, settings: ServiceSettings) -> None:
        super().__init__(redis, keys, bus=bus, settings=settings)
        self._claims: dict[Topic, OwnedRecord] = {}
        self._leaving: set[str] = set()
        self.orphans = Orphans(self, settings)

    # Claims

    def _track(self, record: OwnedRecord) -> OwnedRecord:
        self._claims[record.topic] = record
        return record

    def _drop_claim(self, record: OwnedRecord) -> None:
        """Drop a claim that has ended, unless a newer claim of this process has taken its place."""
        if self._claims.get(record.topic) is record:
            self.untrack(record.topic)

    def untrack(self, topic: Topic) -> None:
        """Drop any claim on a topic: no task of this process works on it any more, or another process owns it."""
        self._claims.pop(topic, None)
        self.bus.end_local(topic)

    @property
    def claimed_topics(self) -> list[Topic]:
        """The records that this process owns, as far as is known here."""
        return list(self._claims)

    def is_adopted(self, topic: Topic) -> bool:
        """Return whether this process owns a record that it has not created."""
        record = self._claims.get(topic)
        return record is not None and record.is_adopted

    async def restore(self, topic: Topic) -> bool:
        """Write again what Redis has lost of a record. Return False if another process owns it by now."""
        record = self._claims.get(topic)
        try:
            if record:
                await record.restore()
        except Fenced:
            return False
        return True

    def leave(self, process: str) -> None:
        """Create nothing for a process any more: it hands over what it owns, and takes no lease again."""
        self._leaving.add(process)

    # Records of any owner

    async def read(self, topic: Topic) -> StoredRecord | None:
        """Return a record, or None if there is none. Raise `RecordUnreadable` if it is no hash."""
        try:
            raw = await retry_while_unavailable(
                lambda: self.redis.hgetall(self.keys.record(topic)), seconds=self.patience_seconds
            )
        except ResponseError as error:
            if is_wrong_type(error):
                raise RecordUnreadable(topic, "its key is no hash") from error
            raise
        return StoredRecord.of(topic, raw) if raw else None

    async def has_later_owner(self, topic: Topic, epoch: int) -> bool:
        """Return whether a record was handed to another owner since it had `epoch`. False if it is lost or damaged."""
        raw = await retry_while_unavailable(
            lambda: self.redis.hget(self.keys.record(topic), "epoch"), seconds=self.patience_seconds
        )
        return raw is not None and raw.isdigit() and int(raw) > epoch

    async def set_field(self, topic: Topic, name: str, value: str) -> bool:
        """Set a field that processes other than the owner may write. Return False if the record does not exist."""
        return bool(await self.set_field_call(topic, name, value).run())

    def set_field_call(self, topic: Topic, name: str, value: str) -> ScriptCall:
        """Return the script call of `set_field`."""
        return ScriptCall(self.scripts, "set_field", [self.keys.record(topic)], [name, value])

    # New owners

    async def create(
        self,
        topic: Topic,
        body: Entity,
        event: Event,
        *,
        process: str,
        fields: Mapping[str, str] | None = None,
        idempotency_key: IdempotencyKey | None = None,
        piggyback: Sequence[ScriptCall] = (),
    ) -> tuple[OwnedRecord | StoredRecord | EarlierCreation, list[ScriptReply]]:
        """Create a record with its first event, and own it; the second result holds the replies to `piggyback`.

        The first result is the stored record if one exists already, or the `EarlierCreation` if the idempotency key was
        used before. The calls in `piggyback` share the round trip.

        Wait for Redis while it is unavailable, and for the lease if this process has lost it. The random claim makes a
        repeated call safe: without it, a record whose reply was lost would have an owner that knows nothing of it.

        Raise `ProcessLeaves` for a process that is about to end.
        """
        if process in self._leaving:
            raise ProcessLeaves(process)
        values: dict[str, FieldValue] = {"body": body.model_dump_json(exclude_none=True), "state": body.state}
        values |= fields or {}
        claim = secrets.token_hex(8)
        payload = encode_events([event])

        call = self._create_call(topic, values, payload, process=process, claim=claim, idempotency_key=idempotency_key)

        async def run_calls() -> list[ScriptReply]:
            creation, *replies = await run_together(self.redis, [call, *piggyback])
            if creation[0] == b"no lease":
                raise ProcessLeaves(process) if process in self._leaving else NoLease(process)
            return [creation, *replies]

        (status, detail), *replies = await retry_while_unavailable(run_calls, seconds=self.patience_seconds)

        if status == b"known":
            return EarlierCreation(detail.decode()), replies
        if status == b"exists":
            return StoredRecord.of(topic, detail), replies

        position = detail.decode()
        self.bus.open_local(topic, Entry.first(position, payload.encode()))
        record = OwnedRecord(
            store=self,
            on_claim_ended=self._drop_claim,
            topic=topic,
            process=process,
            epoch=1,
            claim=claim,
            fields=values,
            recent_entries=deque([AppendedEntry(1, position, 0, 1, payload)]),
        )
        return self._track(record), replies

    def _create_call(
        self,
        topic: Topic,
        values: Mapping[str, FieldValue],
        payload: str,
        *,
        process: str,
        claim: str,
        idempotency_key: IdempotencyKey | None,
    ) -> ScriptCall:
        """Return the call of the script `create`; its header names these keys and arguments in this order."""
        keys = [
            self.keys.record(topic), self.keys.events(topic), self.keys.owned(process),
            self.keys.alive(process), self.keys.processes(service_of(process)),
        ]  # fmt: skip
        idempotency: list[ScriptArg] = ["", 0]
        if idempotency_key:
            keys.append(idempotency_key.key)
            idempotency = [idempotency_key.value, idempotency_key.ttl_ms]

        args: list[ScriptArg] = [
            topic.name, process, claim, self.keys.news(topic), *idempotency,
            len(values), *(part for pair in values.items() for part in pair), 1, payload,
        ]  # fmt: skip
        return ScriptCall(self.scripts, "create", keys, args)

    async def adopt(
        self,
        service: str,
        process: str,
        *,
        topic: Topic | None = None,
        epoch: int | None = None,
    ) -> tuple[OwnedRecord, StoredRecord] | None:
        """Claim an orphan of a service, or the record of `topic` if it has no owner; None if nothing could be claimed.

        With `epoch`, the record is claimed only while it has that epoch, and keeps it. Wait for Redis while it is
        unavailable.

        A record that this release can't read is claimed, but not returned: the member finds that nothing works on it,
        and disowns it for another process to try. After `adoptions_max` of these, or of other adoptions that came to
        nothing, it is ended.
        """
        orphan = await self.orphans.claim(service, process, topic=topic, epoch=epoch)
        if orphan is None:
            return None
        return self._track(self._owned(orphan, process)), orphan.stored

    def _owned(self, orphan: ClaimedOrphan, process: str) -> OwnedRecord:
        stored = orphan.stored
        self.bus.end_local(stored.topic)  # if it was owned here before, others may have written to it since
        seq = stored.number("seq", 1)
        return OwnedRecord(
            store=self,
            on_claim_ended=self._drop_claim,
            topic=stored.topic,
            process=process,
            epoch=orphan.epoch,
            claim=orphan.claim,
            seq=seq + SEQ_JUMP,
            confirmed_seq=seq,
            lines=stored.number("lines", 0),
            fields=stored.owners_fields,
            is_adopted=True,
        )
