"""Everything that one launcher process holds open, and the one place where it is wired."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.common.context import ProcessContext, open_context, service_member
from services.common.records.leases import ServiceMember
from services.common.redis.waiting import wait_for_redis
from services.common.service.health import Health
from services.common.service.loops import background_tasks
from services.launcher.cleanup.reaper import Reaper
from services.launcher.hub.client import Hub
from services.launcher.seats.recount import Recount
from services.launcher.seats.seats import Seats
from services.launcher.servers import Servers
from services.launcher.settings import LauncherSettings
from services.launcher.start.spawn_limiter import SpawnLimiter


@dataclass(frozen=True, kw_only=True)
class LauncherContext:
    """The connections and services of one launcher process."""

    common: ProcessContext
    """Redis, records and the rest that every service has."""
    settings: LauncherSettings
    """The launcher's settings."""
    member: ServiceMember
    """This process as a member of the launcher service: its lease, and the records that it owns."""
    hub: Hub
    """The client of JupyterHub."""
    seats: Seats
    """The limit on running servers."""
    servers: Servers
    """Starts, reads and stops servers."""
    reaper: Reaper
    """Removes from the hub what a record says is not wanted; the application runs it."""


@contextlib.asynccontextmanager
async def open_launcher_context(settings: LauncherSettings, health: Health) -> AsyncIterator[LauncherContext]:
    """Open Redis and the hub client, adopt orphaned starts, and keep seats and limits up to date until the exit."""
    async with open_context(settings, health) as common, contextlib.aclosing(Hub(settings)) as hub:
        seats = Seats(common, settings)
        await wait_for_redis(seats.scripts.load, settings)
        spawn_limiter = SpawnLimiter(common, settings)
        recount = Recount(context=common, settings=settings, hub=hub, seats=seats)
        health.add("JupyterHub API", hub.check_api)
        if settings.hub_checks_proxy:
            health.add("JupyterHub proxy", hub.check_proxy)

        async with service_member(common, "launcher") as member:
            servers = Servers(
                context=common, settings=settings, member=member, hub=hub, seats=seats, spawn_limiter=spawn_limiter
            )
            reaper = Reaper(context=common, settings=settings, member=member, hub=hub, seats=seats, servers=servers)
            await common.bus.listen(common.keys.wake("launcher"), servers.on_message)
            await member.start(on_adopt=servers.adopt)
            async with background_tasks(
                servers.cancel_requests.poll(),
                seats.run(),
                seats.recount_own_starts(),
                spawn_limiter.run(),
                recount.run(),
            ):
                yield LauncherContext(
                    common=common,
                    settings=settings,
                    member=member,
                    hub=hub,
                    seats=seats,
                    servers=servers,
                    reaper=reaper,
                )
