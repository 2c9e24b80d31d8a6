"""Counting anew what runs, where Redis has lost it: until that is done, nobody gets a seat that is limited."""

import time

from services.common.context import ProcessContext
from services.common.git.repository_url import canonical_url
from services.common.models import Server
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.hub.client import Hub, HubServer, HubUnavailable
from services.launcher.hub.retry_budget import PAUSE_MAX_SECONDS
from services.launcher.seats.seats import Counted, Seats
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

RECOUNT = "recount"
"""What a launcher that counts says on the launchers' channel: the others add what they have under way."""


def is_ours(item: HubServer, installation_id: str) -> bool:
    """Whether a server that the hub lists was started by this installation."""
    return item.server_name is not None and bool(item.options.get("bindery_installation") == installation_id)


def counted(item: HubServer, hub_id: str) -> Counted:
    """What a server of ours that the hub lists counts for."""
    told = {name: str(item.options.get(f"bindery_{name}") or "") for name in ("repo_key", "resource_class")}
    repo = told["repo_key"] or str(item.options.get("repo_url") or "")
    server_id = Server.identity(hub_id, item.user, item.server_name or "")
    return Counted(server_id, canonical_url(repo), told["resource_class"], item.user)


class Recount:
    """Counts as soon as anybody finds that it is not known how many servers run; by any launcher, as often as it takes.

    What the hub lists as ours is counted, and what the launchers have under way, which the hub may not list yet.
    """

    def __init__(self, context: ProcessContext, settings: LauncherSettings, hub: Hub, seats: Seats) -> None:
        self._context, self._settings, self._hub, self._seats = context, settings, hub, seats
        self._begun = time.monotonic()

    async def run(self) -> None:
        """Count when that is needed, until cancelled."""
        wait = self._settings.retry_pause_seconds
        while True:
            await sleep_unless_cancelled(0)
            await self._seats.uncounted.wait()
            self._seats.uncounted.clear()
            try:
                with attributed_to("upkeep"):
                    await self._count()
                self._seats.trouble, wait = "", self._settings.retry_pause_seconds
                continue
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="recount", error=str(error))
            except (HubUnavailable, BinderyError) as error:
                log.warning("hub_away", doing="recount", error=str(error))
                self._seats.trouble = f"JupyterHub can't say: {error}."
                self._seats.heard()  # who waits is told so
            except Exception as error:
                log.exception("recount_failed", error=str(error))
            self._seats.uncounted.set()
            await sleep_unless_cancelled(wait)
            wait = min(PAUSE_MAX_SECONDS, wait * 2)

    def _settle_seconds(self) -> float:
        """How long the other launchers have for adding what they have under way: one that misses the word of it does so
        each `reread_seconds`. Where a launcher has just begun it is most often the first, and nothing runs.
        """
        ticks, reread = 2 * self._settings.seat_tick_seconds, self._settings.reread_seconds
        return ticks + (reread if time.monotonic() - self._begun > reread else 0.0)

    async def _count(self) -> None:
        if not (token := await self._seats.begin_count()):
            return
        log.warning("counting_servers")
        await self._context.upkeep.publish(self._context.keys.wake("launcher"), RECOUNT)
        await self._seats.count_under_way()
        await sleep_unless_cancelled(self._settle_seconds())
        ours = [item for item in await self._hub.listing() if is_ours(item, self._settings.installation_id)]
        await self._seats.count(*(counted(item, self._hub.hub_id) for item in ours))
        if not await self._seats.end_count(token):
            self._seats.uncounted.set()
