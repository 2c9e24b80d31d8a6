"""The reaper: compares the hub's listing with the records, and removes what a record says must go.

It deletes only what carries this installation's id and has a record that says so. No record is no reason: that is
counted and left to the idle culler. Ready servers belong to the culler.
"""

import time

from prometheus_client import Counter, Gauge

from services.common.logging import get_logger
from services.common.models import Event, Phase, Server, ServerState
from services.common.records import Fenced, RecordLost
from services.common.stage import Stage
from services.launcher.hub import Hub, HubAway, Listed
from services.launcher.seats import Seats
from services.launcher.servers import Servers, topic_of
from services.launcher.settings import LauncherSettings
from services.launcher.starting import remove_from_hub

log = get_logger(__name__)

REAPED = Counter("bindery_reaped_total", "Servers and users removed from the hub because a record says so", ["what"])
UNKNOWN = Gauge("bindery_servers_without_record", "Servers of ours on the hub that no record speaks of")
TAKEN = Gauge("bindery_seats_taken", "Servers that hold a seat")


class Reaper:
    """One round at a time, by the launcher process that holds the sweep lease."""

    def __init__(self, stage: Stage, settings: LauncherSettings, hub: Hub, seats: Seats, servers: Servers) -> None:
        self._stage, self._settings = stage, settings
        self._hub, self._seats, self._servers = hub, seats, servers
        self._due = 0.0

    async def sweep(self) -> None:
        """Called each second; lists the hub each `reap_interval_seconds`."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._settings.reap_interval_seconds
        await self.reap()

    async def _is_armed(self) -> bool:
        """False for a while after Redis was found empty: what it would have known is not there."""
        key = self._stage.keys("installation")
        if await self._stage.redis.set(key, repr(time.time()), nx=True):
            log.warning("redis_was_empty", disarmed_seconds=self._settings.reap_disarmed_seconds)
            return False
        since = float(await self._stage.redis.get(key) or time.time())
        return time.time() - since > self._settings.reap_disarmed_seconds

    async def reap(self) -> None:
        """Compare once."""
        armed = await self._is_armed()
        began = time.time()
        try:
            listing = await self._hub.listing()
        except HubAway as error:
            log.warning("hub_away", doing="list", error=str(error))
            return
        members = await self._seats.members()
        listed: set[str] = set()
        unknown = 0
        for item in listing:
            server_id = Server.identity(self._hub.hub_id, item.user, item.server_name or "")
            if item.server_name is not None:
                listed.add(server_id)
            stored = await self._stage.records.read(topic_of(server_id))
            server = stored.model(Server) if stored else None
            if not self._is_ours(item, server):
                continue
            if item.server_name is not None and server_id not in members and not (server and server.state.is_final):
                await self._seats.count(server_id)  # its reservation went with Redis
            if server is None:
                unknown += 1
            elif armed and server.state.is_final:
                await self._remove(item, server)
        UNKNOWN.set(unknown)
        TAKEN.set(len(members))
        for member, reserved_at in members.items():
            if member not in listed and reserved_at < began:
                try:
                    await self._missing(member, began, armed=armed)
                except HubAway as error:
                    log.warning("hub_away", doing="read a server", error=str(error))
                    return
        for waiting in await self._seats.waiting():
            stored = await self._stage.records.read(topic_of(waiting))
            if stored is None or stored.model(Server).state.is_final:
                await self._seats.give_back(waiting)  # who waits no more must not keep the others waiting

    def _is_ours(self, item: Listed, server: Server | None) -> bool:
        if item.server_name is not None:
            return bool(item.options.get("bindery_installation") == self._settings.installation_id)
        # A user without a server says nothing of who made it, but its name does, to who knows the launch.
        if server is None:
            return False
        return any(
            item.user == self._servers.user_for(server.repo_url, server.launch_ref, attempt) for attempt in range(4)
        )

    async def _remove(self, item: Listed, server: Server) -> None:
        if await remove_from_hub(self._hub, server, seconds=self._settings.cleanup_timeout_seconds):
            REAPED.labels("user" if item.server_name is None else "server").inc()
            log.info("reaped", server_id=server.server_id, state=server.state)
            await self._seats.give_back(server.server_id)

    async def _missing(self, server_id: str, began: float, *, armed: bool) -> None:
        """A seat whose server is not in the listing: free it, unless its start is under way, or it is there by name."""
        stored = await self._stage.records.read(topic_of(server_id))
        if stored is None:
            await self._seats.give_back(server_id)
            return
        server = stored.model(Server)
        if not server.state.is_final and (
            server.state is not ServerState.READY or (server.ready_at or began) >= began or self._servers.member is None
        ):
            return
        if await self._hub.server(server.user, server.server_name):
            return  # the listing skipped it: another user was deleted while it was read
        if server.state is ServerState.READY and not await self._gone(server):
            return
        await self._seats.give_back(server_id)
        if armed and server.state is ServerState.READY and not await self._hub.delete_user(server.user):
            log.info("user_still_stopping", server_id=server_id)

    async def _gone(self, server: Server) -> bool:
        """Say that a server has ended. False where another process works on it."""
        topic = topic_of(server.server_id)
        process = self._servers.member.process if self._servers.member else ""
        if (found := await self._stage.records.adopt("launcher", process, topic=topic)) is None:
            return False
        gone = server.updated(state=ServerState.GONE)
        event = Event(phase=Phase.UNKNOWN, message="The server has ended.\n", state=ServerState.GONE, terminal=True)
        try:
            await found[0].write(event, body=gone, final=True)
        except (Fenced, RecordLost):
            return False
        log.info("server_gone", server_id=server.server_id, launch_ref=server.launch_ref)
        return True
