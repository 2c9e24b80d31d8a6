"""The search for dead processes, and the release of what they owned, by one process of each service."""

import time
from collections.abc import Sequence

from redis.asyncio import Redis

from services.common.records.store import DROPPED
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import KIND_OF_SERVICE, Keys
from services.common.redis.scripts import ScriptArg, Scripts
from services.common.service.each import for_each
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings

log = get_logger(__name__)


class Sweeper:
    """One process's part in the search: it may hold the sweep lease, and knows whether a lease that ran out is a death.

    While it is in doubt, nobody is dead: after an outage of Redis all other processes need a moment to renew.
    """

    def __init__(self, service: str, process: str, *, redis: Redis, keys: Keys, settings: ServiceSettings) -> None:
        self._service = service
        self._process = process
        self._keys = keys
        self._scripts = Scripts(redis, "services.common.records.scripts")
        self._lease_seconds = settings.lease_seconds
        self._renew_seconds = settings.lease_renew_seconds
        self._renewed_at = time.monotonic()
        self._overdue_until = 0.0
        """End of the last time in which a renewal was overdue; by the monotonic clock."""
        self._certain_from = 0.0
        """Until then leases that have run out prove nothing; by the monotonic clock."""

    # Doubt

    def note_renewal(self, asked_at: float, *, answered_at: float, is_first: bool) -> bool:
        """Take note that this process's own lease was renewed; return whether others may have been kept from that.

        A process that has just begun is in doubt, too: it can't tell whether Redis answered the others until now.
        """
        is_overdue = self._is_overdue(answered_at)
        if is_overdue:
            self._overdue_until = answered_at

        is_in_doubt = is_first or is_overdue
        if is_in_doubt:
            self._certain_from = answered_at + self._lease_seconds
        self._renewed_at = asked_at
        return is_in_doubt

    def _is_in_doubt(self) -> bool:
        now = time.monotonic()
        return now < self._certain_from or self._is_overdue(now)

    def was_overdue_since(self, moment: float) -> bool:
        """Return whether a renewal of this process was overdue at some time since `moment`, a monotonic time."""
        return self._overdue_until >= moment or self._is_overdue(time.monotonic())

    def _is_overdue(self, now: float) -> bool:
        """Return whether other leases may have run out only because Redis, or this process, stood still.

        Every process renews each `lease_renew_seconds`. So if a lease has run out although its owner lives, Redis did
        not answer for longer than the rest of that lease, and it did not answer this process either.
        """
        return now - self._renewed_at > self._lease_seconds - self._renew_seconds

    # Deaths

    async def find_dead(self) -> list[str] | None:
        """Take or renew the sweep lease, and return the dead processes; None if another process holds it."""
        keys = [self._keys.sweep(self._service), self._keys.processes(self._service)]
        args: list[ScriptArg] = [self._process, int(self._lease_seconds * 1000), self._keys.alive("")]
        is_holder, *found = await self._scripts.run("sweep", keys, args)
        if not is_holder:
            return None

        dropped, *dead_processes = found
        DROPPED.labels("processes").inc(dropped)
        return [] if self._is_in_doubt() else [process.decode() for process in dead_processes]

    async def release_all(self, dead_processes: Sequence[str]) -> None:
        """Release what dead processes owned; raise the last error at the end."""

        async def release(process: str) -> None:
            orphans = await self.release(process)
            log.warning("process_died", process=process, orphans=orphans)

        await for_each(dead_processes, release, unavailable=REDIS_UNAVAILABLE)

    async def release(self, process: str, *, by_itself: bool = False) -> int:
        """Turn everything that a process owns into orphans, and return their number. A living process is left alone.

        `by_itself` is for a process that gives up its own.
        """
        keys = [
            self._keys.alive(process),
            self._keys.processes(self._service),
            self._keys.owned(process),
            self._keys.orphans(self._service),
            self._keys.sweep(self._service),
        ]
        wake = self._keys.wake(self._service)
        kind = KIND_OF_SERVICE[self._service]
        args: list[ScriptArg] = [process, int(by_itself), wake, self._keys.prefix, kind]
        orphans, dropped = await self._scripts.run("release", keys, args)
        if dropped:
            DROPPED.labels("owned").inc(dropped)
            log.error("owned_dropped", process=process, dropped=dropped)
        return int(orphans)
