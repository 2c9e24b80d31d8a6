"""Records of builds, launches and servers: reading any of them, creating new ones, adopting orphans.

Who may write is decided in Redis: each write is one script, which first compares the record's epoch and claim.
"""

import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.common.models import Event
from services.common.records.owned_record import AppendedEntry, Fenced, OwnedRecord, RecordLost
from services.common.records.store import RecordStore
from services.common.records.stored_record import Entity, FieldValue, StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Keys, Topic, service_of
from services.common.redis.scripts import ScriptArg, ScriptCall, ScriptReply, run_together
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.entries import Entry, encode_events

SEQ_JUMP = 1000
"""Gap that an adopter leaves in the numbers of writes.

Redis may have lost the last writes in a crash, and followers have seen their numbers; those must not come again.
"""


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


class Records(RecordStore):
    """The records of one installation, and the claims that this process holds on some of them."""

    def __init__(self, redis: Redis, keys: Keys, *, bus: Bus, settings: ServiceSettings) -> None:
        super().__init__(redis, keys, bus=bus, settings=settings)
        self._claims: dict[Topic, OwnedRecord] = {}

    # Claims

    def _track(self, record: OwnedRecord) -> OwnedRecord:
        self._claims[record.topic] = record
        return record

    def _drop_claim(self, record: OwnedRecord) -> None:
        """Drop a claim that has ended, unless a newer claim of this process has taken its place."""
        if self._claims.get(record.topic) is record:
            del self._claims[record.topic]

    def untrack(self, topic: Topic) -> None:
        """Drop any claim on a topic: no task of this process works on it any more."""
        self._claims.pop(topic, None)

    async def probe_fences(self) -> None:
        """Write once to each record that this process owned before it lost its lease.

        Redis refuses the write, and counts it, for each record that has another owner by now.
        """
        for record in list(self._claims.values()):
            with contextlib.suppress(Fenced, RecordLost):
                await record.write()

    async def rewrite(self, *topics: Topic) -> None:
        """Write again the records that an emptied Redis has lost: of `topics`, or all; those whose owners want that."""
        for record in list(self._claims.values()):
            if record.rewrite_if_missing and (not topics or record.topic in topics):
                with contextlib.suppress(Fenced):
                    await record.write()

    # Records of any owner

    async def read(self, topic: Topic) -> StoredRecord | None:
        """Return a record, or None if there is none."""
        raw = await retry_while_unavailable(
            lambda: self.redis.hgetall(self.keys.record(topic)), seconds=self.patience_seconds
        )
        return StoredRecord.of(topic, raw) if raw else None

    async def set_field(self, topic: Topic, name: str, value: str) -> bool:
        """Set a field that processes other than the owner may write. Return False if the record does not exist."""
        return bool(await self.scripts.run("set_field", [self.keys.record(topic)], [name, value]))

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
        rewrite_if_missing: bool = False,
        piggyback: Sequence[ScriptCall] = (),
    ) -> tuple[OwnedRecord | StoredRecord | EarlierCreation, list[ScriptReply]]:
        """Create a record with its first event, and own it; the second result holds the replies to `piggyback`.

        The first result is the stored record if one exists already, or the `EarlierCreation` if the idempotency key was
        used before. The calls in `piggyback` share the round trip.

        Wait for Redis while it is unavailable. The random claim makes a repeated call safe: without it, a record whose
        reply was lost would have an owner that knows nothing of it.
        """
        values: dict[str, FieldValue] = {"body": body.model_dump_json(exclude_none=True), "state": body.state}
        values |= fields or {}
        claim = secrets.token_hex(8)
        payload = encode_events([event])

        call = self._create_call(topic, values, payload, process=process, claim=claim, idempotency_key=idempotency_key)
        (status, detail), *replies = await retry_while_unavailable(
            lambda: run_together(self.redis, [call, *piggyback]), seconds=self.patience_seconds
        )

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
            rewrite_if_missing=rewrite_if_missing,
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
            f"{topic.kind}:{topic.id}", process, claim, self.keys.news(topic), *idempotency,
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
        rewrite_if_missing: bool = False,
    ) -> tuple[OwnedRecord, StoredRecord] | None:
        """Claim an orphan of a service, or the record of `topic` if it has no owner; None if nothing could be claimed.

        With `epoch`, the record is claimed only while it has that epoch, and keeps it. Wait for Redis while it is
        unavailable. A repeated call returns what the call before it claimed: without that, a lost reply would leave a
        record with an owner that knows nothing of it.
        """
        claim = secrets.token_hex(8)
        name = f"{topic.kind}:{topic.id}" if topic else ""
        expected_epoch = "" if epoch is None else epoch
        keys = [self.keys.orphans(service), self.keys.owned(process), self.keys.alive(process)]
        attempts = itertools.count()

        def claim_one() -> ScriptReply:
            is_repeated = next(attempts) > 0
            args: list[ScriptArg] = [process, claim, self.keys.prefix, name, expected_epoch, int(is_repeated)]
            return self.scripts.run("adopt", keys, args)

        reply = await retry_while_unavailable(claim_one, seconds=self.patience_seconds)
        if reply[0] != b"claimed":
            return None

        _, claimed_name, claimed_epoch, fields = reply
        stored = StoredRecord.named(claimed_name.decode(), fields)
        seq = int(stored.get("seq", "1"))
        record = OwnedRecord(
            store=self,
            on_claim_ended=self._drop_claim,
            topic=stored.topic,
            process=process,
            epoch=int(claimed_epoch),
            claim=claim,
            rewrite_if_missing=rewrite_if_missing,
            seq=seq + SEQ_JUMP,
            confirmed_seq=seq,
            lines=int(stored.get("lines", "0")),
            fields=stored.owners_fields,
        )
        return self._track(record), stored
