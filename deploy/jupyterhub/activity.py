"""Last use of a server, read from the server itself.

The idle culler relies on the `last_activity` that the hub holds for a server. Node's proxy reports it from the traffic
it sees, and `jupyterhub-singleuser` from within. Traefik counts no traffic, and a plain Jupyter Server knows no hub.
So the hub asks each server whenever it polls it.
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
    """Keeps the hub's `last_activity` of a running Jupyter Server true. Place it before a spawner in a class's bases.

    A server is in use if it answered a request, if one of its kernels is busy, or if it holds a kernel's websocket
    open. Its own `last_activity` covers only the first. It misses a cell that computes without output and a tab in the
    background, so those are asked for.
    """

    are_connections_activity = Bool(
        True, config=True, help="A browser that holds a kernel's websocket open keeps its server from the culler."
    )
    activity_timeout_seconds = Float(3, config=True, help="How long a server may take to say when it was last used.")

    _is_failure_logged = False

    @property
    def activity_url(self) -> str:
        """URL at which the server is asked."""
        return self.server.url

    async def poll_and_notify(self) -> int | None:
        """Poll the server, as the hub does each `poll_interval`, and record when it was last used."""
        status = await super().poll_and_notify()
        if status is None and self.server is not None and not self._start_pending:
            await self.record_activity()
        return status

    async def record_activity(self, *, if_unknown: datetime | None = None) -> None:
        """Ask the server when it was last used and store that in the hub; store `if_unknown` if it doesn't answer.

        Times are UTC without a zone, as the hub stores them.
        """
        if self.auth_enabled:  # such a server reports to the hub by itself, and answers only users who log in
            return

        last: datetime | None
        try:
            last = await self._last_used()
        except Exception as error:  # noqa: BLE001 -- a server is user code: it may answer anything, or nothing
            log = self.log.debug if self._is_failure_logged else self.log.warning
            log("%s does not say when it was last used: %s", self._log_name, error)
            self._is_failure_logged = True
            last = if_unknown
        if last is None or self.orm_spawner is None or self.server is None:
            return

        for row in (self.orm_spawner, self.user.orm_user):
            row.last_activity = max(row.last_activity or last, last)
        inspect(self.orm_spawner).session.commit()

    async def _last_used(self) -> datetime:
        now = naive_now()
        status = await self._get_json("api/status")
        if self.are_connections_activity and int(status["connections"]) > 0:
            return now
        if int(status["kernels"]) > 0:
            kernels = await self._get_json("api/kernels?no_track_activity=1")
            if any(kernel["execution_state"] == "busy" for kernel in kernels):
                return now
        last_activity = datetime.fromisoformat(status["last_activity"]).astimezone(UTC).replace(tzinfo=None)
        return min(last_activity, now)

    async def _get_json(self, path: str) -> Any:
        response = await http_client().fetch(
            url_path_join(self.activity_url, path),
            headers={"Authorization": f"token {self.user_options.get('token', '')}"},
            request_timeout=self.activity_timeout_seconds,
            follow_redirects=False,
        )
        return json.loads(response.body)


@cache
def http_client() -> AsyncHTTPClient:
    """Return the client for requests to servers.

    It is separate and its answers are small: a server that hangs or sends without end must not delay the hub's calls
    to its proxy.
    """
    return AsyncHTTPClient(force_instance=True, max_clients=100, max_body_size=2**20)


def naive_now() -> datetime:
    """Return the time in UTC without a zone, as the hub stores it."""
    return datetime.now(UTC).replace(tzinfo=None)
