"""Client of JupyterHub's REST API, limited to the calls that a launch needs."""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from services.common.models.errors import BinderyError
from services.common.net.http import PeerUnreachable, PooledClient, only_dict
from services.common.net.reply import Reply
from services.launcher.hub.errors import HubUnavailable, error_for
from services.launcher.hub.failure_patterns import Diagnosis
from services.launcher.settings import LauncherSettings

PAGINATION = "application/jupyterhub-pagination+json"
"""Media type that makes the hub return, with each page, the offset of the next one."""

PAGE_SIZE = 200
"""Users requested per page; the hub may return fewer."""

NOT_ROUTED = {424, 502, 503, 504}
"""Statuses of a proxy that does not reach a server, and of the gateway (424), to which ours leads instead."""

HUBS_OWN = "/hub/user/"
"""Where the hub redirects requests for a server to which its proxy does not lead."""

UNEXPLAINED_FAILURES = ("Spawn failed", "Spawn cancelled")
"""Failures of the hub itself: its proxy did not accept a running server, or the hub is being stopped.

A start that failed by itself, or took too long for the hub, is `Spawn failed: <reason>`; the reason may be empty.
"""


@dataclass(frozen=True)
class HubServer:
    """A server that the hub knows of; `server_name` is None for a user without servers."""

    user: str
    server_name: str | None
    options: dict[str, Any]
    _: KW_ONLY
    ready: bool = False
    pending: str | None = None


@dataclass(frozen=True)
class Progress:
    """One message about a server's start.

    `is_confirmed` says that `ready` can be relied on. JupyterHub reports every server as ready that it has not seen
    fail, even one whose start it just cancelled because the hub itself is being stopped. Our hub configuration checks
    and says so (`is_sure` in the event).
    """

    message: str
    _: KW_ONLY
    ready: bool = False
    failed: bool = False
    is_confirmed: bool = False


class _PagingClient(PooledClient):
    """Client that accepts listings in pages."""

    def __init__(self, base_url: str, *, token: str, read_seconds: float | None, connections: int) -> None:
        super().__init__(
            base_url, peer="hub", token=token, scheme="token", read_seconds=read_seconds, connections=connections
        )
        self._headers["Accept"] = f"{PAGINATION}, */*"


class Hub:
    """Client of one hub.

    Its methods raise `HubUnavailable` if a retry may help, and `BinderyError` (mostly `hub_refused`) if not.
    """

    def __init__(self, settings: LauncherSettings) -> None:
        self.hub_id = settings.hub_id
        self.public_url = settings.hub_url.rstrip("/") + "/"

        token = settings.hub_api_token.get_secret_value()
        self._api_url = api_url = settings.hub_api_url.rstrip("/") + "/"
        connections = settings.hub_connections
        self._client = _PagingClient(
            api_url, token=token, read_seconds=settings.hub_timeout_seconds, connections=connections
        )
        self._streams = _PagingClient(
            api_url, token=token, read_seconds=settings.hub_silence_seconds, connections=connections
        )
        # Users' servers must not see the hub's token.
        self._proxy_url = settings.hub_proxy_url or self.public_url
        self._proxy_setting = "BINDERY_HUB_PROXY_URL" if settings.hub_proxy_url else "BINDERY_HUB_URL"
        self._proxy = PooledClient(
            self._proxy_url,
            peer="proxy",
            read_seconds=settings.hub_timeout_seconds,
            connections=connections,
        )
        self._proxy_headers = {"Host": urlsplit(self.public_url).netloc} if settings.hub_proxy_url else {}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._streams.aclose()
        await self._proxy.aclose()

    def server_url(self, user: str, server_name: str) -> str:
        """Return the URL of a server for browsers, with a slash at the end."""
        return self.public_url + _server_path(user, server_name)

    # Health

    async def check_api(self) -> str | None:
        """Return None if the hub answers and accepts our token, else a sentence that says what to do."""
        try:
            reply = await self._call("GET", "user", accept=(401, 403))
        except HubUnavailable as error:
            return f"JupyterHub does not work at {self._api_url}: {error}. Start it, or name it in BINDERY_HUB_API_URL."
        except BinderyError as error:
            return f"{error} See that BINDERY_HUB_API_URL ({self._api_url}) is the address of its API."
        if reply.is_success:
            return None
        return (
            f"JupyterHub does not accept our token: it answered {reply.status}. Set BINDERY_HUB_API_TOKEN to the "
            "api_token that the hub's configuration gives the launcher's service (docs/hubs.md)."
        )

    async def check_proxy(self) -> str | None:
        """Return None if the hub answers through its proxy, as it must for browsers, else a sentence."""
        advice = f"Start the proxy, or name it in {self._proxy_setting}."
        try:
            reply = await self._proxy.request("GET", "hub/api/health", headers=self._proxy_headers)
        except PeerUnreachable as error:
            return f"JupyterHub's proxy does not answer at {self._proxy_url} ({error}). {advice}"
        if reply.is_success:
            return None
        return f"JupyterHub's proxy at {self._proxy_url} answered {reply.status}. {advice}"

    async def route_problem(self, user: str, server_name: str) -> str | None:
        """Return None if a server itself answers through the proxy, in whatever way, else a few words.

        Jupyter answers `api` without a token, and does not take it for use of the server.
        """
        try:
            path = f"{_server_path(user, server_name)}api"
            async with self._proxy.stream(path, headers=self._proxy_headers) as reply:  # other servers' may be endless
                is_of_hub = HUBS_OWN in reply.headers.get("location", "")
                return f"it answered {reply.status}" if reply.status in NOT_ROUTED or is_of_hub else None
        except PeerUnreachable as error:
            return f"no answer ({error})"

    # Starting a server

    async def create_user(self, user: str) -> None:
        """Create a temporary user. An existing user is accepted: only this installation makes such names."""
        await self._call("POST", f"users/{_quote_user(user)}", accept=(409,))

    async def start_server(self, user: str, server_name: str, options: Mapping[str, Any]) -> HubServer | None:
        """Request a server and return it; if it already runs or starts, return it as the hub describes it.

        Return None if the hub does not know the user. Raise `BinderyError` if the hub refuses, or if the start failed
        at once, which the hub answers with a 500.
        """
        path = f"users/{_quote_user(user)}/servers/{quote(server_name)}"
        reply = await self._call("POST", path, options, accept=(400, 404, 409, 500))
        if reply.is_success:
            # 201 claims that it runs already, but the hub also says so if its proxy did not accept the server.
            return HubServer(user, server_name, dict(options))
        if reply.status == 404:
            return None

        if reply.status == 500:
            await self._raise_immediate_failure(user, server_name)
        else:
            existing = await self.server(user, server_name)
            if existing and (existing.ready or existing.pending == "spawn"):
                return existing
            if existing and existing.pending:
                raise HubUnavailable(f"the server's {existing.pending} is not done yet")
        raise error_for(reply.status, reply.body, None)

    async def _raise_immediate_failure(self, user: str, server_name: str) -> None:
        """Raise the failure that the hub has recorded for a start that was answered with a 500, if there is one."""
        async with contextlib.aclosing(self.progress(user, server_name)) as messages:
            async for progress in messages:
                if progress.failed:
                    raise Diagnosis().failure(progress.message)

    async def progress(self, user: str, server_name: str) -> AsyncGenerator[Progress, None]:
        """Yield the messages of a server's start until it is ready, has failed, or the stream ends.

        The stream ends at once if no start is under way. Raise `HubUnavailable` also if the hub sends nothing for too
        long, or if the hub itself has failed.
        """
        name_path = f"servers/{quote(server_name)}/progress" if server_name else "server/progress"
        last_received = time.monotonic()
        try:
            async with self._streams.stream(f"users/{_quote_user(user)}/{name_path}") as reply:
                if reply.status in {400, 404}:  # not starting: a hub that was restarted knows of no start
                    return
                if not reply.ok:
                    raise error_for(reply.status, await reply.read(), reply.headers.get("retry-after"))

                async for line in reply.content:
                    last_received = time.monotonic()
                    if line.startswith(b"data:"):
                        yield _parse_progress(only_dict(json.loads(line[5:])))
        except (PeerUnreachable, ValueError) as error:
            reason = error if isinstance(error, PeerUnreachable) else type(error).__name__
            silent = time.monotonic() - last_received
            raise HubUnavailable(f"the progress stream broke ({reason})", silent_seconds=silent) from error

    # Reading and removing

    async def server(self, user: str, server_name: str) -> HubServer | None:
        """Return a server as the hub describes it, or None if the hub has no such server."""
        reply = await self._call("GET", f"users/{_quote_user(user)}", accept=(404,))
        if reply.status == 404:
            return None
        return next((server for server in _servers_of(reply.json()) if server.server_name == server_name), None)

    async def list_servers(self) -> list[HubServer]:
        """Return every server on the hub, and every user without one.

        The hub answers in pages: if a user is deleted meanwhile, another one may be missing from the list.
        """
        servers: list[HubServer] = []
        offset = 0
        limit = PAGE_SIZE
        while True:
            reply = await self._call("GET", f"users?offset={offset}&limit={limit}")
            page = only_dict(reply.json())
            if "items" not in page:
                raise HubUnavailable("its listing has no pages")
            for user in page["items"]:
                servers += _servers_of(user)

            next_page = only_dict(only_dict(page.get("_pagination")).get("next"))
            if not next_page:
                return servers
            offset = int(next_page["offset"])
            limit = int(next_page["limit"])

    async def delete_server(self, user: str, server_name: str) -> bool:
        """Stop a server. Return whether it is gone; False means that it is still stopping."""
        path = f"users/{_quote_user(user)}/servers/{quote(server_name)}"
        reply = await self._call("DELETE", path, accept=(400, 404))
        return reply.status in {204, 404}

    async def delete_user(self, user: str) -> bool:
        """Delete a user. Return whether it is gone; False means that one of its servers is still stopping."""
        reply = await self._call("DELETE", f"users/{_quote_user(user)}", accept=(400, 404, 424))
        return reply.status in {204, 404}

    async def _call(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = ()) -> Reply:
        """Make one call. Return a reply that is a success or has a status in `accept`; raise for any other."""
        content = None if body is None else json.dumps(body).encode()
        try:
            reply = await self._client.request(method, path, json_body=content)
        except PeerUnreachable as error:
            raise HubUnavailable(f"no answer ({error})") from error
        if reply.is_success or reply.status in accept:
            return reply
        raise error_for(reply.status, reply.body, reply.headers.get("retry-after"))


def _quote_user(user: str) -> str:
    return quote(user, safe="@~")


def _server_path(user: str, server_name: str) -> str:
    server_part = f"{quote(server_name)}/" if server_name else ""
    return f"user/{_quote_user(user)}/{server_part}"


def _parse_progress(event: dict[str, Any]) -> Progress:
    message = str(event.get("message") or "")
    if event.get("failed") and message in UNEXPLAINED_FAILURES:
        raise HubUnavailable("the start ended without a reason: its proxy does not answer, or it is being stopped")
    return Progress(
        message,
        ready=bool(event.get("ready")),
        failed=bool(event.get("failed")),
        is_confirmed=bool(event.get("is_sure")),
    )


def _servers_of(user: dict[str, Any]) -> list[HubServer]:
    """Return the servers of a user as the hub's API describes it, or one entry without a server."""
    servers = only_dict(user.get("servers"))
    name = str(user.get("name"))
    if not servers:
        return [HubServer(name, None, {})]

    return [
        HubServer(
            name,
            server_name,
            only_dict(server.get("user_options")),
            ready=bool(server.get("ready")),
            pending=server.get("pending"),
        )
        for server_name, server in servers.items()
    ]
