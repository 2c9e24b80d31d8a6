"""Records of builds, launches and servers: reading any of them, creating new ones, adopting orphans.

Who may write is decided in Redis: each write is one script, which first compares the record's epoch and claim.
"""

import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import Event, Phase
from services.common.models.errors import BinderyError
from services.common.records.owned_record import AppendedEntry, Fenced, OwnedRecord
from services.common.records.store import RecordStore
from services.common.records.stored_record import Entity, FieldValue, RecordUnreadable, StoredRecord
from services.common.redis.client import REDIS_PY_UNAVAILABLE, REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import Keys, Topic, service_of
from services.common.redis.scripts import ScriptArg, ScriptCall, ScriptReply, run_together
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.streams.bus import Bus
from services.common.streams.entries import Entry, encode_events

log = get_logger(__name__)

UNREADABLE = Counter(
    "bindery_records_given_up_total", "Records that were ended because no process could work on them", ["kind"]
)

FAILURE_MAX_LENGTH = 200

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


class NoLease(RedisConnectionError):  # type: ignore[misc]  # redis-py is read as untyped
    """This process has no lease, so it may own nothing. It takes its lease again as soon as Redis answers."""


class Records(RecordStore):
    """The records of one installation, and the claims that this process holds on some of them."""

    def __init__(self, redis: Redis, keys: Keys, *, bus: Bus, settings: ServiceSettings) -> None:
        super().__init__(redis, keys, bus=bus, settings=settings)
        self._claims: dict[Topic, OwnedRecord] = {}
        self._adoptions_max = settings.adoptions_max
        self._adoption_trial_ms = int(settings.adoption_trial_seconds * 1000)

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

    async def restore(self, topic: Topic) -> bool:
        """Write again what Redis has lost of a record. Return False if another process owns it by now."""
        record = self._claims.get(topic)
        try:
            if record:
                await record.restore()
        except Fenced:
            return False
        return True

    # Records of any owner

    async def read(self, topic: Topic) -> StoredRecord | None:
        """Return a record, or None if there is none."""
        raw = await retry_while_unavailable(
            lambda: self.redis.hgetall(self.keys.record(topic)), seconds=self.patience_seconds
        )
        return StoredRecord.of(topic, raw) if raw else None

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
        """
        values: dict[str, FieldValue] = {"body": body.model_dump_json(exclude_none=True), "state": body.state}
        values |= fields or {}
        claim = secrets.token_hex(8)
        payload = encode_events([event])

        call = self._create_call(topic, values, payload, process=process, claim=claim, idempotency_key=idempotency_key)

        async def run_calls() -> list[ScriptReply]:
            creation, *replies = await run_together(self.redis, [call, *piggyback])
            if creation[0] == b"no lease":
                raise NoLease(process)
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
        name = topic.name if topic else ""
        while True:
            claim = secrets.token_hex(8)
            reply = await self._claim(service, process, claim=claim, name=name, epoch=epoch)
            if reply[0] == b"dropped":
                log.error("orphan_dropped", noun=reply[1].decode(errors="replace"))
                continue
            if reply[0] == b"none":
                return None

            _, claimed_name, claimed_epoch, fields = reply
            stored = StoredRecord.named(claimed_name.decode(), fields)
            if not await self._is_unworkable(stored, process=process, claim=claim):
                break
            if topic:
                return None

        self.bus.end_local(stored.topic)  # if it was owned here before, others may have written to it since
        seq = stored.number("seq", 1)
        record = OwnedRecord(
            store=self,
            on_claim_ended=self._drop_claim,
            topic=stored.topic,
            process=process,
            epoch=int(claimed_epoch),
            claim=claim,
            seq=seq + SEQ_JUMP,
            confirmed_seq=seq,
            lines=stored.number("lines", 0),
            fields=stored.owners_fields,
        )
        return self._track(record), stored

    async def _claim(self, service: str, process: str, *, claim: str, name: str, epoch: int | None) -> ScriptReply:
        """Run the script `adopt`; its header names these keys and arguments in this order.

        A repeated call returns what the call before it claimed: without that, a lost reply would leave a record with an
        owner that knows nothing of it.
        """
        keys = [self.keys.orphans(service), self.keys.owned(process), self.keys.alive(process)]
        expected_epoch = "" if epoch is None else epoch
        attempts = itertools.count()

        def claim_one() -> ScriptReply:
            is_repeated = next(attempts) > 0
            args: list[ScriptArg] = [
                process, claim, self.keys.prefix, name, expected_epoch, int(is_repeated),
                int(clock.now() * 1000), self._adoption_trial_ms,
            ]  # fmt: skip
            return self.scripts.run("adopt", keys, args)

        return await retry_while_unavailable(claim_one, seconds=self.patience_seconds)

    # Records that nobody can work on

    async def _is_unworkable(self, stored: StoredRecord, *, process: str, claim: str) -> bool:
        """Return whether a claimed record is left alone: it can't be read, or was adopted in vain too often."""
        adoptions = int(stored.get("adoptions", "1"))
        reason = stored.get("failure") or "each owner died soon after it had adopted it"
        try:
            stored.check_readable()
        except RecordUnreadable as error:
            reason = error.reason
            log.warning("record_unreadable", noun=stored.topic.name, reason=reason, adoption=adoptions)
            if adoptions < self._adoptions_max:
                await self.note_failure(stored.topic, error)
                return True
        else:
            if adoptions <= self._adoptions_max:
                return False

        UNREADABLE.labels(stored.topic.kind).inc()
        log.error("record_given_up", noun=stored.topic.name, reason=reason, adoptions=adoptions)
        await self._end_unreadable(stored.topic, process=process, claim=claim)
        return True

    async def note_failure(self, topic: Topic, error: Exception) -> None:
        """Note in a record that work on it has failed, so that its adoption counts as one in vain.

        An outage of Redis says nothing about the record, and one that another process owns is none of ours.
        """
        if isinstance(error, (*REDIS_PY_UNAVAILABLE, Fenced)):
            return
        reason = error.reason if isinstance(error, RecordUnreadable) else type(error).__name__
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await self.set_field(topic, "failure", reason[:FAILURE_MAX_LENGTH])

    async def _end_unreadable(self, topic: Topic, *, process: str, claim: str) -> None:
        """End a record as failed without a look at its body; its followers read the error."""
        error = BinderyError("record_unreadable")
        event = Event(
            phase=Phase.FAILED, message=f"{error.detail}\n", state="failed", error=error.problem, terminal=True
        )
        keys = [self.keys.record(topic), self.keys.events(topic), self.keys.owned(process)]
        args: list[ScriptArg] = [
            topic.name, claim, self.keys.news(topic), "failed", encode_events([event]), self.ttl_ms, SEQ_JUMP
        ]  # fmt: skip
        await retry_while_unavailable(
            lambda: self.scripts.run("end_unreadable", keys, args), seconds=self.patience_seconds
        )
