"""When a server was last used, asked of the server itself.

The idle culler goes by the `last_activity` that the hub holds of a server. Node's proxy reports it from the
traffic it sees and `jupyterhub-singleuser` from within; traefik counts no traffic, and a plain Jupyter Server
knows no hub. So the hub asks each server, each time it polls it.
"""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jupyterhub.utils import url_path_join
from sqlalchemy import inspect
from tornado.httpclient import AsyncHTTPClient
from traitlets import Bool, Float
from traitlets.config import Configurable


class ServerActivityMixin(Configurable):
    """Keeps the hub's `last_activity` of a running Jupyter Server true; to be placed before a spawner.

    In use is a server that answered somebody, whose kernel does something, or that holds a kernel's websocket
    open. Its own `last_activity` has the first; a cell that computes in silence and a tab in the background
    are not in it, so they are asked for.
    """

    are_connections_activity = Bool(
        True, config=True, help="A browser that holds a kernel's websocket open keeps its server from the culler."
    )
    activity_timeout_seconds = Float(3, config=True, help="How long a server may take to tell.")

    _is_silence_told = False

    @property
    def activity_url(self) -> str:
        return self.server.url

    async def poll_and_notify(self) -> int | None:
        """Poll the server, as the hub does each `poll_interval`, and learn when it was last used."""
        status = await super().poll_and_notify()
        if status is None and self.server is not None and not self._start_pending:
            await self.record_activity()
        return status

    async def record_activity(self, *, if_unknown: datetime | None = None) -> None:
        """Ask the server when it was last used and tell the hub; a server that doesn't answer leaves `if_unknown`.

        Times are UTC without a zone, as the hub stores them.
        """
        if self.auth_enabled:  # such a server tells the hub by itself, and answers only who logs in
            return
        last: datetime | None
        try:
            last = await self._last_used()
        except Exception as error:  # noqa: BLE001 -- a server is user code: it may answer anything, or nothing
            tell = self.log.debug if self._is_silence_told else self.log.warning
            tell("%s does not tell when it was last used: %s", self._log_name, error)
            self._is_silence_told = True
            last = if_unknown
        if last is None or self.orm_spawner is None or self.server is None:
            return
        for noun in (self.orm_spawner, self.user.orm_user):
            noun.last_activity = max(noun.last_activity or last, last)
        inspect(self.orm_spawner).session.commit()

    async def _last_used(self) -> datetime:
        now = naive_now()
        status = await self._ask("api/status")
        if self.are_connections_activity and int(status["connections"]) > 0:
            return now
        if int(status["kernels"]) > 0:
            kernels = await self._ask("api/kernels?no_track_activity=1")
            if any(kernel["execution_state"] == "busy" for kernel in kernels):
                return now
        told = datetime.fromisoformat(status["last_activity"]).astimezone(UTC).replace(tzinfo=None)
        return min(told, now)

    async def _ask(self, path: str) -> Any:
        answer = await http_client().fetch(
            url_path_join(self.activity_url, path),
            headers={"Authorization": f"token {self.user_options.get('token', '')}"},
            request_timeout=self.activity_timeout_seconds,
            follow_redirects=False,
        )
        return json.loads(answer.body)


@cache
def http_client() -> AsyncHTTPClient:
    """Return the client for questions to servers."""
    # Of its own and with a small limit: servers that hang or babble must not hold up the hub's calls to its proxy.
    return AsyncHTTPClient(force_instance=True, max_clients=100, max_body_size=2**20)


def naive_now() -> datetime:
    """Return the time in UTC without a zone, as the hub stores it."""
    return datetime.now(UTC).replace(tzinfo=None)
