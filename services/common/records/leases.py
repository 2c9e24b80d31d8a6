"""Leases, by which a process shows that it is alive, and the take-over of what a dead process owned."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from services.common.records.owned_record import FENCED, OwnedRecord
from services.common.records.records import Records
from services.common.records.stored_record import RecordUnreadable, StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys, Kind, Topic
from services.common.redis.scripts import ScriptArg, Scripts
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

OnAdopt = Callable[[OwnedRecord, StoredRecord], Awaitable[None]]
"""Continues the work on a record that was taken over from another process."""

OnSweep = Callable[[], Awaitable[None]]
"""Does a service's own upkeep, at each sweep."""

OnLease = Callable[[], Awaitable[None]]
"""Registers in Redis what a process offers while it holds its lease."""


class ServiceMember:
    """One process of a service: it renews a lease, adopts what dead processes owned, and sweeps if it is the sweeper.

    It starts in two steps, as the objects that its callbacks belong to need a member themselves. After `take_lease` the
    process has a name and a lease, and may own records. `start` registers the callbacks, and only then is anything
    adopted or swept. `work` runs one task for each owned record; the tasks are cancelled when the lease is lost.
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
        self._sweeps = sweeps
        self._on_adopt: OnAdopt | None = None
        self._on_sweep: OnSweep | None = None
        self._on_lease: OnLease | None = None
        self._started = asyncio.Event()

        self._tasks: dict[Topic, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._lease_ends = 0.0
        self._names_without_task: set[str] = set()

        self.is_sweeper = False
        """Whether this process held the sweep lease at the last sweep."""
        self.is_leaving = False
        """Whether everything has been handed over: nothing is adopted or swept any more."""
        self.process = self._new_name()
        """Name of this process; a new one after each lost lease."""

    def _new_name(self) -> str:
        return f"{self.service}-{socket.gethostname()[:20]}-{os.getpid()}-{secrets.token_hex(3)}"

    # Lease

    async def take_lease(self) -> None:
        """Take the lease under the current name: this process may own records from now on."""
        await self._renew(first=True)
        if self._on_lease:
            await self._on_lease()

    async def start(
        self, *, on_adopt: OnAdopt | None = None, on_sweep: OnSweep | None = None, on_lease: OnLease | None = None
    ) -> None:
        """Register the callbacks, and start to adopt and sweep.

        `on_adopt` is called with each record that is taken over; `on_sweep` at each sweep, in the one process that
        holds the sweep lease. `on_lease` is called now, and again whenever the lease had to be taken a second time:
        under a new name, or in a Redis that was emptied.
        """
        self._on_adopt = on_adopt
        self._on_sweep = on_sweep
        self._on_lease = on_lease

        if on_lease:
            await on_lease()
        self._started.set()

    async def run(self) -> None:
        """Renew the lease, and after `start` adopt and sweep, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_lease(), name="lease")
            group.create_task(self._adopt_orphans(), name="adopting")
            if self._sweeps:
                group.create_task(self._sweep(), name="sweep")

    async def hand_over(self) -> None:
        """Stop all work and release every record at once, so that no other process waits for the lease to end."""
        self.is_leaving = True
        await self._cancel_work()
        await self._release(self.process, by_itself=True)

    async def _cancel_work(self) -> None:
        # Not `cancel_and_wait`: a second cancel would cut short a write that waits for its reply.
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, *, first: bool = False) -> bool:
        """Renew the lease, or take it if `first`. Return False if it had run out."""
        keys = [self._keys.alive(self.process), self._keys.processes(self.service), self._keys.owned(self.process)]
        lease_ends = time.monotonic() + self._lease_ms / 1000

        answer = int(await self._scripts.run("renew", keys, [self.process, self._lease_ms, int(first)]))
        if not answer:
            return False
        self._lease_ends = lease_ends
        owned_count = answer - 1
        if owned_count > len(self._tasks) or self._names_without_task:
            await self._release_records_without_task()
        return True

    async def _release_records_without_task(self) -> None:
        """Release each record that Redis lists as this process's at two renewals in a row, and that has no task here.

        Such a record had ended, but Redis came back without its last second, and so without the record's final write.
        """
        owned_names = {raw.decode() for raw in await self._redis.smembers(self._keys.owned(self.process))}
        names_without_task = owned_names - {f"{topic.kind}:{topic.id}" for topic in self._tasks}

        for name in names_without_task & self._names_without_task:
            log.warning("forgotten", noun=name)
            kind, _, topic_id = name.partition(":")
            record = self._keys.record(Topic(Kind(kind), topic_id))
            keys = [self._keys.owned(self.process), self._keys.orphans(self.service), record]
            await self._scripts.run("disown", keys, [self.process, name, self._keys.wake(self.service)])
        self._names_without_task = names_without_task

    async def _keep_lease(self) -> None:
        while True:
            await sleep_unless_cancelled(self._renew_seconds)
            try:
                renewal_began = time.monotonic()
                if self.is_leaving or await self._renew():
                    continue

                # A lease that can't have run out yet is gone only if Redis was emptied. Nobody else can have taken
                # what this process owns, so it goes on under its name.
                if renewal_began < self._lease_ends:
                    log.warning("redis_was_emptied", process=self.process, owned=len(self._tasks))
                    await self._records.rewrite()
                    await self.take_lease()
                    continue

                # This process was paused, or Redis was unavailable, for longer than the lease: others may own its
                # work by now.
                FENCED.labels("lease").inc()
                log.warning("lease_lost", process=self.process, owned=len(self._tasks))
                await self._release(self.process, by_itself=True)
                await self._records.probe_fences()
                await self._cancel_work()
                self.process = self._new_name()
                await self.take_lease()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="renew", error=str(error))

    # Work

    def work(self, topic: Topic, work: Awaitable[None]) -> None:
        """Run `work` as the task of a record that this process owns."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if isinstance(error, RecordUnreadable):
                    log.warning("record_unreadable", noun=f"{topic.kind}:{topic.id}", reason=error.reason)
                else:
                    log.exception("work_ended", noun=f"{topic.kind}:{topic.id}", error=str(error))
                await self._records.note_failure(topic, error)

        with attributed_to("work"):
            task = asyncio.create_task(guarded(), name=f"{topic.kind}:{topic.id}")
        self._tasks[topic] = task
        task.add_done_callback(lambda done: self._on_done(topic, done))

    def _on_done(self, topic: Topic, task: asyncio.Task[None]) -> None:
        if self._tasks.get(topic) is task:
            del self._tasks[topic]
            self._records.untrack(topic)

    def owns(self, topic: Topic) -> bool:
        """Return whether a task of this process works on a record."""
        return topic in self._tasks

    def wake(self) -> None:
        """Look for orphans now: there was a message on the service's channel."""
        self._wake.set()

    async def _adopt_orphans(self) -> None:
        await self._started.wait()

        while True:
            try:
                while self._on_adopt and not self.is_leaving:
                    adopted = await self._records.adopt(self.service, self.process)
                    if adopted is None:
                        break
                    record, stored = adopted
                    log.info("adopted", noun=f"{stored.topic.kind}:{stored.topic.id}", epoch=record.epoch)
                    self.work(stored.topic, self._on_adopt(record, stored))
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="adopt", error=str(error))
            await sleep_unless_cancelled(0)
            await self._wait_for_wake()

    async def _wait_for_wake(self) -> None:
        """Wait for a message, or as long as a sweep may be overdue in case that was lost."""
        try:
            async with asyncio.timeout(self._sweep_seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    # Sweeping

    async def _sweep(self) -> None:
        await self._started.wait()

        while not self.is_leaving:
            try:
                await self.sweep_once()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="sweep", error=str(error))
            except Exception as error:
                log.exception("sweep_failed", error=str(error))
            await sleep_unless_cancelled(self._sweep_seconds)

    async def sweep_once(self) -> None:
        """Take the sweep lease if it is free; then release what dead processes owned, and call `on_sweep`."""
        keys = [self._keys.sweep(self.service), self._keys.processes(self.service)]
        is_holder, *dead_processes = await self._scripts.run(
            "sweep", keys, [self.process, self._lease_ms, self._keys.alive("")]
        )
        self.is_sweeper = bool(is_holder)
        if not is_holder:
            return

        for process in dead_processes:
            orphans = await self._release(process.decode())
            log.warning("process_died", process=process.decode(), orphans=orphans)
        if self._on_sweep:
            await self._on_sweep()

    async def _release(self, process: str, *, by_itself: bool = False) -> int:
        """Turn everything that a process owns into orphans, and return their number. A living process is left alone.

        `by_itself` is for a process that gives up its own.
        """
        keys = [
            self._keys.alive(process),
            self._keys.processes(self.service),
            self._keys.owned(process),
            self._keys.orphans(self.service),
            self._keys.sweep(self.service),
        ]
        args: list[ScriptArg] = [process, int(by_itself), self._keys.wake(self.service), self._keys.prefix]
        return int(await self._scripts.run("release", keys, args))
