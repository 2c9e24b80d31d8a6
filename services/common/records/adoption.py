"""Orphans: claiming one for a process of its service, and ending one on which no process can work."""

import contextlib
import itertools
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import Counter

from services.common.models import Event, Phase
from services.common.models.errors import BinderyError
from services.common.records.owned_record import Fenced
from services.common.records.store import DROPPED, RecordStore
from services.common.records.stored_record import RecordUnreadable, StoredRecord
from services.common.redis.client import REDIS_PY_UNAVAILABLE, REDIS_UNAVAILABLE, retry_while_unavailable
from services.common.redis.keys import KIND_OF_SERVICE, Topic
from services.common.redis.scripts import ScriptArg, ScriptCall, ScriptReply, run_together
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.streams.entries import encode_events

log = get_logger(__name__)

UNWORKABLE = Counter(
    "bindery_records_unworkable_total", "Records that were ended because no process could work on them", ["kind"]
)

FAILURE_MAX_LENGTH = 200

SUSPECT_ADOPTIONS = 3
"""Count of adoptions from which a record without a noted failure is a suspect, as in the script `adopt`."""

SEQ_JUMP = 1000
"""Gap that an adopter leaves in the numbers of writes.

Redis may have lost the last writes in a crash, and followers have seen their numbers; those must not come again.
"""


class ClaimedOrphan(NamedTuple):
    """A record that this process has claimed, as it was then."""

    stored: StoredRecord
    epoch: int
    claim: str


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """A record that this process has adopted. A death after `trial_ends_at` (monotonic) is not put down to it."""

    topic: Topic
    claim: str
    is_suspect: bool
    trial_ends_at: float


class Trials:
    """The adoptions of one process that are on trial, and how many suspects there may be among them.

    A process that dies leaves all that it had adopted, and at most one record of that is the reason. So a record that
    was there when two owners in a row died on trial is a suspect. A process takes one suspect at first; if it is alive
    after `seconds`, it takes two, then four.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._adoptions: list[Adoption] = []
        self._suspects_max = 1

    def _count_suspects(self) -> int:
        return sum(adoption.is_suspect for adoption in self._adoptions)

    def has_room(self) -> bool:
        """Return whether this process may take a suspect now."""
        return self._count_suspects() < self._suspects_max

    def add(self, topic: Topic, claim: str, *, is_suspect: bool) -> None:
        """Begin the trial of a record that this process has claimed."""
        ends_at = time.monotonic() + self._seconds
        self._adoptions.append(Adoption(topic=topic, claim=claim, is_suspect=is_suspect, trial_ends_at=ends_at))

    def over(self) -> list[Adoption]:
        """Return the adoptions whose trial this process has lived through."""
        now = time.monotonic()
        return [adoption for adoption in self._adoptions if adoption.trial_ends_at <= now]

    def end(self, adoptions: Sequence[Adoption]) -> bool:
        """Forget adoptions. Return whether their end makes room for suspects: twice as many as before."""
        had_suspects = self._count_suspects() > 0
        self._adoptions = [adoption for adoption in self._adoptions if adoption not in adoptions]
        makes_room = had_suspects and self._count_suspects() == 0
        if makes_room:
            self._suspects_max *= 2
        return makes_room


class Orphans:
    """The records without an owner, in one installation."""

    def __init__(self, store: RecordStore, settings: ServiceSettings) -> None:
        self._store = store
        self._keys = store.keys
        self._scripts = store.scripts
        self._adoptions_max = settings.adoptions_max
        self._trials = Trials(settings.adoption_trial_seconds)

    async def claim(
        self, service: str, process: str, *, topic: Topic | None, epoch: int | None
    ) -> ClaimedOrphan | None:
        """Claim an orphan of a service, or the record of `topic` if it has no owner; see `Records.adopt`."""
        name = topic.name if topic else ""
        while True:
            claim = secrets.token_hex(8)
            reply = await self._claim(service, process, claim=claim, name=name, epoch=epoch)
            if reply[0] == b"dropped":
                DROPPED.labels("orphans").inc()
                log.error("orphan_dropped", noun=reply[1].decode(errors="replace"))
                if topic:
                    return None
                continue
            if reply[0] == b"none":
                return None

            _, claimed_name, claimed_epoch, fields = reply
            stored = StoredRecord.named(claimed_name.decode(), fields)
            if not await self._is_unworkable(stored, process=process, claim=claim):
                self._trials.add(stored.topic, claim, is_suspect=_is_suspect(stored))
                return ClaimedOrphan(stored, int(claimed_epoch), claim)
            if topic:
                return None

    async def _claim(self, service: str, process: str, *, claim: str, name: str, epoch: int | None) -> ScriptReply:
        """Run the script `adopt`; its header names these keys and arguments in this order.

        A repeated call returns what the call before it claimed: without that, a lost reply would leave a record with an
        owner that knows nothing of it.
        """
        keys = [self._keys.orphans(service), self._keys.owned(process), self._keys.alive(process)]
        expected_epoch = "" if epoch is None else epoch
        takes_suspects = bool(name) or self._trials.has_room()
        attempts = itertools.count()

        def claim_one() -> ScriptReply:
            is_repeated = next(attempts) > 0
            args: list[ScriptArg] = [
                process, claim, self._keys.prefix, name, expected_epoch, int(is_repeated),
                KIND_OF_SERVICE[service], int(takes_suspects),
            ]  # fmt: skip
            return self._scripts.run("adopt", keys, args)

        return await retry_while_unavailable(claim_one, seconds=self._store.patience_seconds)

    async def end_trials(self) -> bool:
        """Note in the records that this process has lived with for long enough that they do not kill their owner.

        Return whether it may adopt suspects again.
        """
        over = self._trials.over()
        if not over:
            return False
        calls = [
            ScriptCall(self._scripts, "end_trial", [self._keys.record(adoption.topic)], [adoption.claim])
            for adoption in over
        ]
        await run_together(self._store.redis, calls)
        return self._trials.end(over)

    # Records that nobody can work on

    async def _is_unworkable(self, stored: StoredRecord, *, process: str, claim: str) -> bool:
        """Return whether a claimed record is left alone: it can't be read, or was adopted in vain too often."""
        adoptions = stored.number("adoptions", 1)
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

        UNWORKABLE.labels(stored.topic.kind).inc()
        log.error("record_unworkable", noun=stored.topic.name, reason=reason, adoptions=adoptions)
        await self._end_unworkable(stored.topic, process=process, claim=claim)
        return True

    async def note_failure(self, topic: Topic, error: Exception) -> None:
        """Note in a record that work on it has failed, so that its adoption counts as one in vain.

        An outage of Redis says nothing about the record, and one that another process owns is none of ours.
        """
        if isinstance(error, (*REDIS_PY_UNAVAILABLE, Fenced)):
            return
        reason = error.reason if isinstance(error, RecordUnreadable) else type(error).__name__
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            args: list[ScriptArg] = ["failure", reason[:FAILURE_MAX_LENGTH]]
            await self._scripts.run("set_field", [self._keys.record(topic)], args)

    async def _end_unworkable(self, topic: Topic, *, process: str, claim: str) -> None:
        """End a record as failed without a look at its body; its followers read the error."""
        error = BinderyError("record_unreadable")
        event = Event(
            phase=Phase.FAILED, message=f"{error.detail}\n", state="failed", error=error.problem, terminal=True
        )
        keys = [self._keys.record(topic), self._keys.events(topic), self._keys.owned(process)]
        args: list[ScriptArg] = [
            topic.name, claim, self._keys.news(topic), "failed", encode_events([event]), self._store.ttl_ms, SEQ_JUMP
        ]  # fmt: skip
        await retry_while_unavailable(
            lambda: self._scripts.run("end_unworkable", keys, args), seconds=self._store.patience_seconds
        )


def _is_suspect(stored: StoredRecord) -> bool:
    return not stored.get("failure") and stored.number("adoptions", 1) >= SUSPECT_ADOPTIONS
