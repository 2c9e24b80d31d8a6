"""The reaper: compares the hub's list of servers with the records, and removes each that a record says must go.

It deletes only servers and users of this installation, and only if a record says so. A server without a record is
counted and left to the idle culler, as are ready servers.
"""

import asyncio
import random
import re
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from services.common.context import ProcessContext
from services.common.models import Event, Phase, Server, ServerState
from services.common.models.errors import BinderyError
from services.common.records.leases import ServiceMember
from services.common.records.owned_record import Fenced
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.redis.wrong_type import execute_each
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import run_all
from services.launcher.abandoned_servers import abandoned_servers, readable_servers
from services.launcher.hub.client import Hub, HubServer
from services.launcher.hub.errors import HubUnavailable
from services.launcher.hub.removal import remove_from_hub
from services.launcher.seats.recount import claim_of, is_ours
from services.launcher.seats.seats import SeatHolder, Seats
from services.launcher.servers import Servers, server_topic
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

REAPED = Counter("bindery_reaped_total", "Servers and users removed from the hub because a record says so", ["what"])
WITHOUT_RECORD = Gauge(
    "bindery_servers_without_record",
    "Servers of this installation on the hub that have no record (the launcher that compares hub and records; else 0)",
)

OUR_USER_NAME = re.compile(r".*-[a-z2-7]{8}")
"""Form of every user name that we make; records are only looked up for names of this form."""

MAX_PARALLEL_REMOVALS = 8

READ_BATCH = 200
"""Records read in one round trip."""


class Reaper:
    """Compares hub and records, one round at a time, in the launcher process that holds the sweep lease."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        settings: LauncherSettings,
        member: ServiceMember,
        hub: Hub,
        seats: Seats,
        servers: Servers,
    ) -> None:
        self._context = context
        self._settings = settings
        self._member = member
        self._hub = hub
        self._seats = seats
        self._servers = servers
        self._without_record = 0

    async def run(self) -> None:
        """Reap every `reap_interval_seconds` while this process holds the sweep lease, until cancelled.

        This is not part of the sweep itself: a slow hub must not delay the search for launchers that died.
        """
        await run_forever(
            self._reap_if_sweeper,
            name="reaper",
            wait=self._settings.reap_interval_seconds,
            unavailable=REDIS_PY_UNAVAILABLE,
        )

    async def _reap_if_sweeper(self) -> None:
        """Reap within the time of a round. What is left then is for the next one: every step may be repeated."""
        if not self._member.is_sweeper:
            self._without_record = 0
            WITHOUT_RECORD.set(0)  # the launcher that reaps now tells it
            return

        round_end = asyncio.timeout(self._settings.reap_round_max_seconds)
        try:
            async with round_end:
                await self.reap()
        except TimeoutError:
            if not round_end.expired():
                raise
            log.warning("reaping_cut_short", seconds=self._settings.reap_round_max_seconds)

    async def reap(self) -> None:
        """Compare and remove once."""
        may_delete = await self._may_delete()

        listed_at = clock.now()
        try:
            listed = await self._hub.list_servers()
            await self._compare(listed, listed_at, may_delete=may_delete)
        except (HubUnavailable, BinderyError) as error:
            log.warning("hub_away", doing="reap", error=str(error))

        waiting = await self._seats.waiting_server_ids()
        await self._stop_abandoned({*await self._seats.holders(), *waiting}, may_delete=may_delete)

        # A launch that no longer waits must not keep others waiting.
        records = await self._read_records(waiting)
        no_longer_waiting = [name for name in waiting if name not in records or records[name].get("final") == "1"]
        await self._seats.release(*no_longer_waiting)
        await self._seats.repair_totals()

    async def _may_delete(self) -> bool:
        """Return False for `reap_disarmed_seconds` after Redis was emptied: records that protect servers are lost."""
        key = self._context.keys("installation")
        if await self._context.redis.set(key, repr(clock.now()), nx=True):
            log.warning("redis_was_empty", disarmed_seconds=self._settings.reap_disarmed_seconds)
            return False
        raw = await self._context.redis.get(key)
        try:
            empty_since = float(raw or clock.now())
        except ValueError:  # damaged: as if it had been lost
            log.warning("installation_unreadable", disarmed_seconds=self._settings.reap_disarmed_seconds)
            await self._context.redis.delete(key)
            return False
        return clock.now() - empty_since > self._settings.reap_disarmed_seconds

    # The hub's servers

    async def _compare(self, entries: list[HubServer], listed_at: float, *, may_delete: bool) -> None:
        on_hub = {self._id_of(entry): entry for entry in entries if self._may_be_ours(entry)}
        records = await self._read_records(on_hub)
        servers = readable_servers(records)
        holders = await self._seats.holders()

        to_remove: list[tuple[str, HubServer]] = []
        missing = {name for name, holder in holders.items() if holder.reserved_at < listed_at} - on_hub.keys()
        without_record = 0
        for server_id, entry in on_hub.items():
            server = servers.get(server_id)
            if entry.server_name is None:  # a user without a server
                if server is None or not self._servers.is_user_of(server.user, server.launch_ref):
                    continue
                if server.state.is_final:
                    to_remove.append((server_id, entry))
                elif server.state is ServerState.READY or server_id in holders:
                    missing.add(server_id)
                continue

            if server_id not in holders:  # Redis lost its reservation, or its record ended before the server did
                await self._seats.count(claim_of(entry, self._hub.hub_id))
            record = records.get(server_id)
            if record is None:
                without_record += 1
            elif record.get("final") == "1" and record.get("state") == ServerState.FAILED:  # readable or not
                to_remove.append((server_id, entry))

        self._report_without_record(without_record)
        if may_delete:
            await self._remove_all(to_remove)
        for server_id in missing:
            await self._reconcile_missing(server_id, listed_at, holders.get(server_id), may_delete=may_delete)

    def _id_of(self, entry: HubServer) -> str:
        return Server.identity(self._hub.hub_id, entry.user, entry.server_name or "")

    def _may_be_ours(self, entry: HubServer) -> bool:
        if entry.server_name is not None:
            return is_ours(entry, self._settings.installation_id)
        # A user without a server has no options that name our installation; its name proves it once the launch is read.
        return OUR_USER_NAME.fullmatch(entry.user) is not None

    def _report_without_record(self, count: int) -> None:
        if count != self._without_record:
            self._without_record = count
            log.warning("servers_without_record", count=count)
        WITHOUT_RECORD.set(count)

    async def _remove_all(self, to_remove: list[tuple[str, HubServer]]) -> None:
        random.shuffle(to_remove)  # so that those that can't be removed do not keep the others waiting, each round
        slots = asyncio.Semaphore(MAX_PARALLEL_REMOVALS)

        async def remove(server_id: str, entry: HubServer) -> None:
            async with slots:
                seconds = self._settings.cleanup_timeout_seconds
                if await remove_from_hub(self._hub, entry.user, entry.server_name or "", seconds=seconds):
                    REAPED.labels("user" if entry.server_name is None else "server").inc()
                    log.info("reaped", server_id=server_id)
                    await self._seats.release(server_id)

        await run_all(*(remove(server_id, entry) for server_id, entry in to_remove))

    # Seats whose server the hub does not list

    async def _reconcile_missing(
        self, server_id: str, listed_at: float, holder: SeatHolder | None, *, may_delete: bool
    ) -> None:
        """Release the seat of a server that is not listed, unless it is starting or the hub knows it by name."""
        records = await self._read_records([server_id])
        server = readable_servers(records).get(server_id)
        if server is None:
            await self._reconcile_without_record(server_id, listed_at, holder)
            is_kept = server_id in await self._seats.holders()  # the hub may have the server all the same
            if records and not is_kept:  # an adoption in vain, as it can't be read: the first of those that end it
                await self._context.records.adopt("launcher", self._member.process, topic=server_topic(server_id))
            return
        became_ready_before = server.state is ServerState.READY and (server.ready_at or listed_at) < listed_at
        if not server.state.is_final and not became_ready_before:
            return
        if await self._hub.server(server.user, server.server_name):
            return  # the listing missed it: another user was deleted while it was read

        if server.state is ServerState.READY and not await self._mark_gone(server):
            return
        await self._seats.release(server_id)
        if may_delete and server.state is ServerState.READY and not await self._hub.delete_user(server.user):
            log.info("user_still_stopping", server_id=server_id)

    async def _reconcile_without_record(self, server_id: str, listed_at: float, holder: SeatHolder | None) -> None:
        # Its owner may be about to write the record again, and the server may run although Redis lost its record.
        is_recent = holder is not None and holder.reserved_at >= listed_at - self._settings.lease_seconds
        is_on_hub = holder is not None and holder.user and await self._hub.server(holder.user, "")
        if not is_recent and not is_on_hub:
            await self._seats.release(server_id)

    async def _mark_gone(self, server: Server) -> bool:
        """Record that a server has ended. Return False if another process works on its record."""
        topic = server_topic(server.server_id)
        adopted = await self._context.records.adopt("launcher", self._member.process, topic=topic)
        if adopted is None:
            return False

        record, _ = adopted
        ended_server = server.updated(state=ServerState.GONE)
        event = Event(phase=Phase.UNKNOWN, message="The server has ended.\n", state=ServerState.GONE, terminal=True)
        try:
            await record.write(event, body=ended_server, final=True)
        except Fenced:
            return False
        log.info("server_gone", server_id=server.server_id, launch_ref=server.launch_ref)
        return True

    # Servers whose launch ended without them

    async def _stop_abandoned(self, server_ids: Iterable[str], *, may_delete: bool) -> None:
        """Stop the starts and servers whose launch ended without them, and whose cancel was lost."""
        slots = asyncio.Semaphore(MAX_PARALLEL_REMOVALS)

        async def stop(server: Server) -> None:
            async with slots:
                log.info("unwanted", server_id=server.server_id, state=server.state, launch_ref=server.launch_ref)
                await self._servers.stop(server.server_id, even_ready=may_delete)

        abandoned = await abandoned_servers(self._context, await self._read_records(server_ids))
        await run_all(
            *(stop(server) for server in abandoned.values() if may_delete or server.state is not ServerState.READY)
        )

    # Records

    async def _read_records(self, server_ids: Iterable[str]) -> dict[str, StoredRecord]:
        """Return the records that exist, by server id."""
        ids = list(server_ids)
        records = {}
        for start in range(0, len(ids), READ_BATCH):
            batch = ids[start : start + READ_BATCH]
            async with self._context.redis.pipeline(transaction=False) as pipe:
                for server_id in batch:
                    pipe.hgetall(self._context.keys.record(server_topic(server_id)))
                answers = await execute_each(pipe)

            for server_id, raw in zip(batch, answers, strict=True):
                if raw is None:  # no hash: it exists, and can't be read
                    records[server_id] = StoredRecord(server_topic(server_id), {})
                elif raw:
                    records[server_id] = StoredRecord.of(server_topic(server_id), raw)
        return records
