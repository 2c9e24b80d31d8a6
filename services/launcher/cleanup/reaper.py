"""The reaper: compares the hub's listing with the records, and removes what a record says must go.

It deletes only what carries this installation's id and has a record that says so. No record is no reason: that is
counted and left to the idle culler. Ready servers belong to the culler.
"""

import asyncio
import re
import time
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from services.common.context import ProcessContext
from services.common.models import Event, Phase, Server, ServerState
from services.common.models.errors import BinderyError
from services.common.records.leases import StageMember
from services.common.records.records import Fenced, RecordLost, StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.abandoned_servers import unwanted
from services.launcher.hub.client import Hub, HubServer, HubUnavailable
from services.launcher.seats.recount import counted, is_ours
from services.launcher.seats.seats import Member, Seats
from services.launcher.servers import Servers, topic_of
from services.launcher.settings import LauncherSettings
from services.launcher.start.start import remove_from_hub

log = get_logger(__name__)

REAPED = Counter("bindery_reaped_total", "Servers and users removed from the hub because a record says so", ["what"])
UNKNOWN = Gauge("bindery_servers_without_record", "Servers of ours on the hub that no record speaks of")

MAYBE_OURS = re.compile(r".*-[a-z2-7]{8}")
"""What every user name that we make looks like: no record is looked for under any other."""

AT_ONCE = 8
"""Removals under way at once."""

READ_AT_ONCE = 200
"""Records that are read in one round trip."""


class Reaper:
    """One round at a time, by the launcher process that holds the sweep lease."""

    def __init__(
        self, context: ProcessContext, settings: LauncherSettings, hub: Hub, seats: Seats, servers: Servers
    ) -> None:
        self._context, self._settings = context, settings
        self._hub, self._seats, self._servers = hub, seats, servers
        self._unknown = 0

    async def run(self, member: StageMember) -> None:
        """Compare each `reap_interval_seconds`, while this process sweeps, until cancelled.

        Apart from the sweep itself: a hub that is slow must not keep the dead from being found.
        """
        while True:
            await sleep_unless_cancelled(self._settings.reap_interval_seconds)
            if not member.sweeping:
                continue
            try:
                await self.reap()
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="reap", error=str(error))
            except Exception as error:  # the next round tries again
                log.exception("reaping_failed", error=str(error))

    async def _is_armed(self) -> bool:
        """False for a while after Redis was found empty: what it would have known is not there."""
        key = self._context.keys("installation")
        if await self._context.redis.set(key, repr(time.time()), nx=True):
            log.warning("redis_was_empty", disarmed_seconds=self._settings.reap_disarmed_seconds)
            return False
        since = float(await self._context.redis.get(key) or time.time())
        return time.time() - since > self._settings.reap_disarmed_seconds

    async def reap(self) -> None:
        """Compare once."""
        armed = await self._is_armed()
        began = time.time()
        try:
            listing = await self._hub.listing()
            await self._compare(listing, began, armed=armed)
        except (HubUnavailable, BinderyError) as error:
            log.warning("hub_away", doing="reap", error=str(error))
        waiting = await self._seats.waiting()
        await self._stop_unwanted({*await self._seats.members(), *waiting}, armed=armed)
        records = await self._records(waiting)
        # Who waits no more must not keep the others waiting.
        await self._seats.give_back(
            *(name for name in waiting if name not in records or records[name].state.is_final)
        )  # fmt: skip
        await self._seats.mend()

    async def _compare(self, listing: list[HubServer], began: float, *, armed: bool) -> None:
        found = {self._id_of(item): item for item in listing if self._may_be_ours(item)}
        records = await self._records(found)
        members = await self._seats.members()
        removed: list[tuple[HubServer, Server]] = []
        missing = {name for name, member in members.items() if member.reserved_at < began} - found.keys()
        unknown = 0
        for server_id, item in found.items():
            server = records.get(server_id)
            if item.server_name is None:
                if server is None or not self._has_our_name(server):
                    continue
                if server.state.is_final:
                    removed.append((item, server))
                elif server.state is ServerState.READY or server_id in members:
                    missing.add(server_id)
                continue
            if server_id not in members:  # its reservation went with Redis, or it outlived its end by its record
                await self._seats.count(counted(item, self._hub.hub_id))
            if server is None:
                unknown += 1
            elif server.state is ServerState.FAILED:
                removed.append((item, server))
        if unknown != self._unknown:
            self._unknown = unknown
            log.warning("servers_without_record", count=unknown)
        UNKNOWN.set(unknown)
        if armed:
            await self._remove_all(removed)
        for server_id in missing:
            await self._missing(server_id, began, members.get(server_id), armed=armed)

    def _id_of(self, item: HubServer) -> str:
        return Server.identity(self._hub.hub_id, item.user, item.server_name or "")

    def _may_be_ours(self, item: HubServer) -> bool:
        if item.server_name is not None:
            return is_ours(item, self._settings.installation_id)
        # A user without a server says nothing of who made it; its name does, to who knows the launch.
        return MAYBE_OURS.fullmatch(item.user) is not None

    def _has_our_name(self, server: Server) -> bool:
        return self._servers.is_user_of(server.user, server.launch_ref)

    async def _records(self, server_ids: Iterable[str]) -> dict[str, Server]:
        return {name: stored.model(Server) for name, stored in (await self._stored(server_ids)).items()}

    async def _stored(self, server_ids: Iterable[str]) -> dict[str, StoredRecord]:
        ids, found = list(server_ids), {}
        for at in range(0, len(ids), READ_AT_ONCE):
            some = ids[at : at + READ_AT_ONCE]
            async with self._context.redis.pipeline(transaction=False) as pipe:
                for server_id in some:
                    pipe.hgetall(self._context.keys.record(topic_of(server_id)))
                answers = await pipe.execute()
            for server_id, raw in zip(some, answers, strict=True):
                if raw:
                    found[server_id] = StoredRecord.of(topic_of(server_id), raw)
        return found

    async def _stop_unwanted(self, server_ids: Iterable[str], *, armed: bool) -> None:
        """Have those given up whose launch ended without them: a cancel has reached nobody."""
        places = asyncio.Semaphore(AT_ONCE)

        async def stop(server: Server) -> None:
            async with places:
                log.info("unwanted", server_id=server.server_id, state=server.state, launch_ref=server.launch_ref)
                await self._servers.stop(server.server_id, even_ready=armed)

        found = await unwanted(self._context, await self._stored(server_ids))
        await asyncio.gather(*(stop(one) for one in found.values() if armed or one.state is not ServerState.READY))

    async def _remove_all(self, removed: list[tuple[HubServer, Server]]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def remove(item: HubServer, server: Server) -> None:
            async with places:
                if await remove_from_hub(self._hub, server, seconds=self._settings.cleanup_timeout_seconds):
                    REAPED.labels("user" if item.server_name is None else "server").inc()
                    log.info("reaped", server_id=server.server_id, state=server.state)
                    await self._seats.give_back(server.server_id)

        await asyncio.gather(*(remove(item, server) for item, server in removed))

    async def _missing(self, server_id: str, began: float, member: Member | None, *, armed: bool) -> None:
        """A seat whose server is not in the listing: free it, unless its start is under way, or it is there by name."""
        server = (await self._records([server_id])).get(server_id)
        if server is None:
            # Its owner may be about to write it anew; and it may run all the same, where it has a name.
            is_old = member is None or member.reserved_at < began - self._settings.lease_seconds
            is_there = member is not None and member.user and await self._hub.server(member.user, "")
            if is_old and not is_there:
                await self._seats.give_back(server_id)
            return
        if not server.state.is_final and (server.state is not ServerState.READY or (server.ready_at or began) >= began):
            return
        listed = await self._hub.server(server.user, server.server_name)
        if listed:
            return  # the listing skipped it: another user was deleted while it was read
        if server.state is ServerState.READY and not await self._gone(server):
            return
        await self._seats.give_back(server_id)
        if armed and server.state is ServerState.READY and not await self._hub.delete_user(server.user):
            log.info("user_still_stopping", server_id=server_id)

    async def _gone(self, server: Server) -> bool:
        """Say that a server has ended. False where another process works on it."""
        topic = topic_of(server.server_id)
        process = self._servers.member.process
        if (found := await self._context.records.adopt("launcher", process, topic=topic)) is None:
            return False
        gone = server.updated(state=ServerState.GONE)
        event = Event(phase=Phase.UNKNOWN, message="The server has ended.\n", state=ServerState.GONE, terminal=True)
        try:
            await found[0].write(event, body=gone, final=True)
        except (Fenced, RecordLost):
            return False
        log.info("server_gone", server_id=server.server_id, launch_ref=server.launch_ref)
        return True
