"""Count of the running servers after Redis has lost it; until it is done, no limited seat is given."""

import time

from services.common.context import ProcessContext
from services.common.git.repository_url import canonical_url
from services.common.models import Server
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.hub.client import Hub, HubServer
from services.launcher.hub.errors import HubUnavailable
from services.launcher.hub.retry_budget import PAUSE_MAX_SECONDS
from services.launcher.seats.seats import SeatClaim, Seats
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

RECOUNT = "recount"
"""Message on the launchers' channel: a launcher counts, and the others add the starts that they have under way."""


def is_ours(server: HubServer, installation_id: str) -> bool:
    """Return whether a server that the hub lists was started by this installation."""
    return server.server_name is not None and bool(server.options.get("bindery_installation") == installation_id)


def claim_of(server: HubServer, hub_id: str) -> SeatClaim:
    """Return the seats that a server of ours takes, from the options that it was started with."""
    options = server.options
    repo = str(options.get("bindery_repo_key") or "") or str(options.get("repo_url") or "")
    return SeatClaim(
        server_id=Server.identity(hub_id, server.user, server.server_name or ""),
        repo=canonical_url(repo),
        resource_class=str(options.get("bindery_resource_class") or ""),
        user=server.user,
    )


class Recount:
    """Counts the running servers as soon as `Seats` finds that Redis may not know their number.

    Any launcher may count, and several may at once. The count includes the servers of ours that the hub lists, and the
    starts that the launchers have under way, which the hub may not list yet.
    """

    def __init__(self, *, context: ProcessContext, settings: LauncherSettings, hub: Hub, seats: Seats) -> None:
        self._context = context
        self._settings = settings
        self._hub = hub
        self._seats = seats
        self._created_at = time.monotonic()

    async def run(self) -> None:
        """Count whenever that is needed, until cancelled; after a failure, again with growing pauses."""
        unavailable = (*REDIS_UNAVAILABLE, HubUnavailable, BinderyError)
        await run_forever(
            self._count_or_say_why,
            name="recount",
            wait=self._seats.count_needed.wait,
            unavailable=unavailable,
            retry_max_seconds=PAUSE_MAX_SECONDS,
        )

    async def _count_or_say_why(self) -> None:
        self._seats.count_needed.clear()
        try:
            with attributed_to("upkeep"):
                await self._count()
        except HubUnavailable as error:
            self._seats.on_count_failed(f"JupyterHub can't say: {error}.")
            raise
        except BinderyError as error:
            refusal = error if error.has_code("hub_token_refused") else None  # others pass: a proxy's 404, for one
            self._seats.on_count_failed(f"JupyterHub can't say: {error}", refusal)
            raise
        self._seats.count_error = ""
        self._seats.count_refusal = None

    async def _count(self) -> None:
        token = await self._seats.begin_count()
        if not token:
            return
        log.warning("counting_servers")

        await self._context.lease_redis.publish(self._context.keys.wake("launcher"), RECOUNT)
        await self._seats.count_own_starts()
        await sleep_unless_cancelled(self._settle_seconds())

        servers = await self._hub.list_servers()
        ours = [server for server in servers if is_ours(server, self._settings.installation_id)]
        await self._seats.count(*(claim_of(server, self._hub.hub_id) for server in ours))

        if not await self._seats.end_count(token):
            self._seats.count_needed.set()

    def _settle_seconds(self) -> float:
        """Return how long to wait for the other launchers to count the starts that they have under way.

        A launcher that misses the message counts them every `recount_seconds`. A launcher that has just begun does not
        wait for that: it is usually the first one, and nothing runs.
        """
        seconds = 2 * self._settings.seat_tick_seconds
        if time.monotonic() - self._created_at > self._settings.recount_seconds:
            seconds += self._settings.recount_seconds
        return seconds
