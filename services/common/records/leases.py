"""A process as a member of its service: its lease, by which it shows that it is alive, and the work that it owns."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

from redis.asyncio import Redis

from services.common.records.owned_record import FENCED, OwnedRecord
from services.common.records.records import Records
from services.common.records.store import DROPPED
from services.common.records.stored_record import StoredRecord
from services.common.records.sweeping import Sweeper
from services.common.records.work import Work
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import KIND_OF_SERVICE, Keys, Topic
from services.common.redis.scripts import Scripts
from services.common.service.each import for_each
from services.common.service.logging import get_logger
from services.common.service.loops import background_tasks, run_forever
from services.common.service.settings import ServiceSettings
from services.common.service.tasks import sleep_unless_cancelled, wait_and_clear

log = get_logger(__name__)

RETRY_SECONDS = 0.2
"""Longest pause between two attempts at a renewal: what is left of the lease is short."""

OnAdopt = Callable[[OwnedRecord, StoredRecord], Awaitable[None]]
"""Continues the work on a record that was taken over from another process."""

OnSweep = Callable[[], Awaitable[None]]
"""Does a service's own upkeep, at each sweep."""

OnLease = Callable[[], Awaitable[None]]
"""Registers in Redis what a process offers while it holds its lease."""


class ServiceMember:
    """One process of a service: it renews a lease, adopts what dead processes owned, and sweeps if it is the sweeper.

    It starts in two steps, as the objects that its callbacks belong to need a member themselves. After `take_lease` the
    process has a lease, and may own records. `start` registers the callbacks, and only then is anything adopted or
    swept. `work` runs one task for each owned record; a task is cancelled when another process has taken its record.
    """

    def __init__(
        self,
        service: str,
        *,
        redis: Redis,
        keys: Keys,
        records: Records,
        settings: ServiceSettings,
        sweeps: bool = True,
    ) -> None:
        self.service = service
        self._redis = redis
        self._keys = keys
        self._records = records
        self._scripts = Scripts(redis, "services.common.records.scripts")

        self._lease_ms = int(settings.lease_seconds * 1000)
        self._renew_seconds = settings.lease_renew_seconds
        self._sweep_seconds = settings.sweep_interval_seconds
        self._adoption_seconds = 1 / settings.adoptions_per_second
        self._sweeps = sweeps
        self._on_adopt: OnAdopt | None = None
        self._on_sweep: OnSweep | None = None
        self._on_lease: OnLease | None = None
        self._started = asyncio.Event()

        self._work = Work(records)
        self._wake = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._offering = asyncio.Lock()
        self._lost_lease = False
        self._records_differ = asyncio.Event()
        self._without_task: dict[bytes, float] = {}
        """Records that Redis lists as this process's and that have no task, with the time when that was first found."""

        self.is_sweeper = False
        """Whether this process held the sweep lease at the last sweep."""
        self.is_leaving = False
        """Whether everything has been handed over: nothing is adopted or swept any more."""
        self.process = f"{service}-{socket.gethostname()[:20]}-{os.getpid()}-{secrets.token_hex(3)}"
        """Name of this process."""
        self._sweeper = Sweeper(service, self.process, redis=redis, keys=keys, settings=settings)

    # Lease

    async def take_lease(self) -> None:
        """Take the lease: this process may own records from now on."""
        await self._renew(first=True)
        if self._on_lease:
            await self._on_lease()

    async def start(
        self, *, on_adopt: OnAdopt | None = None, on_sweep: OnSweep | None = None, on_lease: OnLease | None = None
    ) -> None:
        """Register the callbacks, and start to adopt and sweep.

        `on_adopt` is called with each record that is taken over; `on_sweep` at each sweep, in the one process that
        holds the sweep lease. `on_lease` is called now, and again whenever the lease had to be taken a second time or
        Redis may have lost something.
        """
        self._on_adopt = on_adopt
        self._on_sweep = on_sweep
        self._on_lease = on_lease

        if on_lease:
            await on_lease()
        self._started.set()

    async def run(self) -> None:
        """Renew the lease, and after `start` adopt and sweep, until cancelled."""
        self._records.bus.on_loss(self.wake)
        self._records.bus.on_loss(self._records_differ.set)
        wait_for_difference = partial(wait_and_clear, self._records_differ, seconds=self._records.bus.reread_seconds)
        loops = [
            run_forever(
                self._keep_lease, name="lease", wait=self._renew_seconds, unavailable=REDIS_UNAVAILABLE,
                retry_max_seconds=RETRY_SECONDS,
            ),
            run_forever(
                self._check_records, name="records", wait=wait_for_difference, unavailable=REDIS_UNAVAILABLE
            ),
        ]  # fmt: skip
        async with background_tasks(*loops):
            await self._started.wait()
            async with background_tasks(*self._loops_after_start()):
                await asyncio.Event().wait()

    def _loops_after_start(self) -> list[Coroutine[Any, Any, NoReturn]]:
        wait_for_orphans = partial(wait_and_clear, self._wake, seconds=self._records.bus.reread_seconds)
        loops = [
            run_forever(
                self._adopt_orphans, name="adoption", wait=wait_for_orphans, at_once=True, unavailable=REDIS_UNAVAILABLE
            )
        ]
        if self._sweeps:
            loops.append(
                run_forever(
                    self._sweep, name="sweep", wait=self._sweep_seconds, at_once=True, unavailable=REDIS_UNAVAILABLE
                )
            )
        return loops

    async def hand_over(self) -> None:
        """Stop all work and release every record at once, so that no other process waits for the lease to end."""
        self.is_leaving = True
        self._records.leave(self.process)
        await self._work.cancel_all()
        async with self._renewing, self._offering:
            await self._sweeper.release(self.process, by_itself=True)

    async def _keep_lease(self) -> None:
        # A renewal that reached Redis after the release would take the lease of a process that has left.
        async with self._renewing:
            if not self.is_leaving:
                await self._renew_or_take()
        if await self._records.orphans.end_trials():
            self.wake()

    async def _renew_or_take(self) -> None:
        owned_count = await self._renew()

        if owned_count is None:
            # A sweeper took what this process owned, or Redis has lost it: the check tells which, record by record.
            FENCED.labels("lease").inc()
            log.warning("lease_lost", process=self.process, owned=len(self._work.topics))
            self._lost_lease = True
        if self._lost_lease:
            await self.take_lease()
            self._lost_lease = False
            self._records_differ.set()
            self._records.bus.report_loss()
        elif not owned_count == len(self._work.topics) == len(self._records.claimed_topics):
            self._records_differ.set()

    async def _renew(self, *, first: bool = False) -> int | None:
        """Renew the lease, or take it if `first`. Return the number of records that Redis lists as this process's.

        A lease that ran out is revived unless a sweeper has released this process; then return None.
        """
        keys = [self._keys.alive(self.process), self._keys.processes(self.service), self._keys.owned(self.process)]
        asked_at = time.monotonic()
        answer = int(await self._scripts.run("renew", keys, [self.process, self._lease_ms, int(first)]))

        if self._sweeper.note_renewal(asked_at, answered_at=time.monotonic(), is_first=first):
            self.wake()  # while its lease had run out, this process could adopt nothing
        return answer - 1 if answer else None

    def was_redis_away_since(self, moment: float) -> bool:
        """Return whether Redis was away for some seconds, or this process stood still, since a monotonic time."""
        return self._sweeper.was_overdue_since(moment)

    # Records in Redis, and here

    async def _check_records(self) -> None:
        """Compare the records that Redis lists as this process's with those that it works on, and mend the difference.

        This is all that is done about records after Redis was emptied, after it came back without its last second, and
        after this process was taken for dead. Seats, slots and the reaper's disarming have ways of their own.

        The counts that a renewal compares may be equal by chance, so this is done after each loss of messages, too.
        """
        if self.is_leaving:
            return
        owned = await self._redis.smembers(self._keys.owned(self.process))
        not_listed = [topic for topic in self._records.claimed_topics if topic.name.encode() not in owned]

        forgotten = self._forgotten(owned - {topic.name.encode() for topic in self._work.topics})

        try:
            await for_each(not_listed, self._restore, unavailable=REDIS_UNAVAILABLE)
            await self._offer_again()
        finally:
            await for_each(forgotten, self._disown, unavailable=REDIS_UNAVAILABLE)

    async def _offer_again(self) -> None:
        """Register again what stands in Redis beside the records: it may be lost even if writes restored all these."""
        async with self._offering:  # and not the renewals' lock: a slow offer must let no lease run out
            if self._on_lease and not self.is_leaving:
                await self._on_lease()

    def _forgotten(self, without_task: set[bytes]) -> list[bytes]:
        """Return the records that have had no task for two renewals: each is listed before its task exists."""
        now = time.monotonic()
        self._without_task = {name: self._without_task.get(name, now) for name in without_task}
        return [name for name, since in self._without_task.items() if now - since >= 2 * self._renew_seconds]

    async def _restore(self, topic: Topic) -> None:
        """Write again what Redis has lost of a record, or stop the work on it if it is another process's by now."""
        if not await self._records.restore(topic):
            self._work.cancel(topic)

    async def _disown(self, name: bytes) -> None:
        """Offer a listed record, on which this process does not work, to all; drop a name that is no record's."""
        log.warning("forgotten", noun=name.decode(errors="replace"))
        self._without_task.pop(name, None)  # this process may claim it again
        owned_key = self._keys.owned(self.process)
        try:
            topic = Topic.named(name.decode())
        except ValueError:
            topic = None
        if topic is None or topic.kind is not KIND_OF_SERVICE[self.service]:
            DROPPED.labels("owned").inc()
            await self._redis.srem(owned_key, name)
            return

        keys = [owned_key, self._keys.orphans(self.service), self._keys.record(topic)]
        await self._scripts.run("disown", keys, [self.process, name, self._keys.wake(self.service)])

    # Work

    def work(self, topic: Topic, work: Awaitable[None]) -> None:
        """Run `work` as the task of a record that this process owns."""
        self._work.begin(topic, work)

    def owns(self, topic: Topic) -> bool:
        """Return whether a task of this process works on a record."""
        return topic in self._work.topics

    def wake(self) -> None:
        """Look for orphans now: there was a message on the service's channel."""
        self._wake.set()

    async def _adopt_orphans(self) -> None:
        """Adopt all orphans of the service, one after the other, at a pace that keeps their work from a rush."""
        while self._on_adopt and not self.is_leaving:
            adopted = await self._records.adopt(self.service, self.process)
            if adopted is None:
                return
            record, stored = adopted
            log.info("adopted", noun=stored.topic.name, epoch=record.epoch)
            self.work(stored.topic, self._on_adopt(record, stored))
            await sleep_unless_cancelled(self._adoption_seconds)

    # Sweeping

    async def _sweep(self) -> None:
        if not self.is_leaving:
            await self.sweep_once()

    async def sweep_once(self) -> None:
        """Take the sweep lease if it is free; then release what dead processes owned, and call `on_sweep`."""
        dead_processes = await self._sweeper.find_dead()
        self.is_sweeper = dead_processes is not None
        if dead_processes is None:
            return

        try:
            await self._sweeper.release_all(dead_processes)
        finally:
            if self._on_sweep:
                await self._on_sweep()
