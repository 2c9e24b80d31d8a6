"""JupyterHub's REST API, as far as a launch needs it."""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from services.common.models.errors import BinderyError
from services.common.net.http import PeerUnreachable, PooledClient, Reply, only_dict
from services.launcher.hub.failure_patterns import Diagnosis, Verdict, match_pattern
from services.launcher.settings import LauncherSettings

PAGINATION = "application/jupyterhub-pagination+json"
"""What makes the hub say where the next page begins, whatever size it makes a page."""

UNEXPLAINED_FAILURES = ("Spawn failed", "Spawn cancelled")
"""Failures of the hub itself: its proxy did not take a server that is up, or it is being stopped.

A start that failed by itself, or took too long for the hub, is `Spawn failed: <why>`, the why of which may be empty.
"""

PAGE = 200
"""Users that are asked for at once; the hub may give fewer."""

BAD_TOKEN = ("Missing or invalid credentials", "not authorized with current scopes")
"""What JupyterHub 5 and 6 say with a 403 when the token is revoked, or lacks a scope; a hook's refusal says more."""


class HubUnavailable(Exception):
    """The hub did not answer as it should, and asking again can help. `retry_after_seconds` is what it asked for.

    With `is_busy`, it is well, and has as many starts under way as it may. `silent_seconds` is for how long nothing had
    come from it, where that is not since it was asked.
    """

    def __init__(
        self,
        what: str,
        retry_after_seconds: float | None = None,
        *,
        is_busy: bool = False,
        silent_seconds: float | None = None,
    ) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds
        self.is_busy = is_busy
        self.silent_seconds = silent_seconds


@dataclass(frozen=True)
class HubServer:
    """A server in the hub's listing; `server_name` None stands for a user without servers."""

    user: str
    server_name: str | None
    options: dict[str, Any]
    ready: bool = False
    pending: str | None = None


@dataclass(frozen=True)
class Progress:
    """One message of a server's start. `is_sure` says of `ready` that it is no mistake of a hub that is being stopped.

    JupyterHub calls each server ready that it has not seen fail, also one whose start it has just cancelled for its
    own end. The hub configuration of ours looks twice, and says so.
    """

    message: str
    ready: bool = False
    failed: bool = False
    is_sure: bool = False


def _quoted(user: str) -> str:
    return quote(user, safe="@~")


class _Client(PooledClient):
    """Says with each call that a listing may come in pages."""

    def __init__(self, base_url: str, *, token: str, read_seconds: float | None, connections: int) -> None:
        super().__init__(
            base_url, peer="hub", token=token, scheme="token", read_seconds=read_seconds, connections=connections
        )
        self._headers["Accept"] = f"{PAGINATION}, */*"


class Hub:
    """A client of one hub. Raises `HubAway` where asking again can help, `BinderyError("hub_refused")` where not."""

    def __init__(self, settings: LauncherSettings) -> None:
        self.hub_id = settings.hub_id
        self.public_url = settings.hub_url.rstrip("/") + "/"
        token = settings.hub_api_token.get_secret_value()
        base = settings.hub_api_url.rstrip("/") + "/"
        connections = settings.hub_connections
        self._client = _Client(
            base, token=token, read_seconds=settings.hub_timeout_seconds, connections=connections
        )  # fmt: skip
        self._streams = _Client(
            base, token=token, read_seconds=settings.hub_silence_seconds, connections=connections
        )  # fmt: skip

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._streams.aclose()

    def server_url(self, user: str, server_name: str) -> str:
        """Where a server is reached by browsers, ending with a slash."""
        return f"{self.public_url}user/{_quoted(user)}/" + (f"{quote(server_name)}/" if server_name else "")

    async def _call(self, method: str, path: str, body: object = None, *, fine: tuple[int, ...] = ()) -> Reply:
        try:
            content = None if body is None else json.dumps(body).encode()
            reply = await self._client.request(method, path, json_body=content)
        except PeerUnreachable as error:
            raise HubUnavailable(f"no answer ({error})") from error
        if reply.is_success or reply.status_code in fine:
            return reply
        raise _trouble(reply.status_code, reply.content, reply.headers.get("retry-after"))

    async def healthy(self) -> str | None:
        """None when the hub answers and knows our token, else a sentence."""
        try:
            await self._call("GET", "user")
        except (HubUnavailable, BinderyError) as error:
            return str(error)
        return None

    async def reached_through_proxy(self) -> str | None:
        """None when browsers' way to the hub works, through its proxy; else a sentence."""
        try:
            reply = await self._client.request("GET", f"{self.public_url}hub/api/health")
        except PeerUnreachable as error:
            return f"no answer ({error})"
        return None if reply.is_success else f"it answered {reply.status_code}"

    async def create_user(self, user: str) -> None:
        """Create a temporary user; one that exists is fine, as its name is ours alone."""
        await self._call("POST", f"users/{_quoted(user)}", fine=(409,))

    async def start_server(self, user: str, server_name: str, options: Mapping[str, Any]) -> HubServer | None:
        """Ask for a server. What comes back is the hub's own account where the server was there or starting already.

        None where the hub does not know the user. Raises `BinderyError` when the hub says no, unless that is because
        the server runs or starts already, and when the start failed at once, which hides behind a 500.
        """
        path = f"users/{_quoted(user)}/servers/{quote(server_name)}"
        reply = await self._call("POST", path, options, fine=(400, 404, 409, 500))
        if reply.is_success:
            # 201 would say that it runs already; the hub says so also of one that its proxy did not take.
            return HubServer(user, server_name, dict(options))
        if reply.status_code == 404:
            return None
        if reply.status_code == 500:
            await self._failed_at_once(user, server_name)
        else:
            listed = await self.server(user, server_name)
            if listed and (listed.ready or listed.pending == "spawn"):
                return listed
            if listed and listed.pending:
                raise HubUnavailable(f"the server's {listed.pending} is not done yet")
        raise _trouble(reply.status_code, reply.content, None)

    async def _failed_at_once(self, user: str, server_name: str) -> None:
        """Raise what the hub keeps of a start that failed before it was answered: the 500 itself may say nothing."""
        async with contextlib.aclosing(self.progress(user, server_name)) as messages:
            async for progress in messages:
                if progress.failed:
                    raise Diagnosis().failure(progress.message)

    async def server(self, user: str, server_name: str) -> HubServer | None:
        """What the hub knows of a server, or None."""
        reply = await self._call("GET", f"users/{_quoted(user)}", fine=(404,))
        if reply.status_code == 404:
            return None
        return next((found for found in _listed(reply.json()) if found.server_name == server_name), None)

    async def progress(self, user: str, server_name: str) -> AsyncGenerator[Progress, None]:
        """Follow a server's start until it is ready or has failed, or the stream ends: at once where none is on.

        Raises `HubAway` also where the hub says nothing for too long, and where it is the hub that failed.
        """
        path = f"users/{_quoted(user)}/" + (
            f"servers/{quote(server_name)}/progress" if server_name else "server/progress"
        )
        heard = time.monotonic()
        try:
            async with self._streams.stream(path) as reply:
                if reply.status in {400, 404}:  # not starting: a hub that was restarted knows of no start
                    return
                if not reply.ok:
                    raise _trouble(reply.status, await reply.read(), reply.headers.get("retry-after"))
                async for line in reply.content:
                    heard = time.monotonic()
                    if line.startswith(b"data:"):
                        yield _progress(only_dict(json.loads(line[5:])))
        except (PeerUnreachable, ValueError) as error:
            why = error if isinstance(error, PeerUnreachable) else type(error).__name__
            silent = time.monotonic() - heard
            raise HubUnavailable(f"the progress stream broke ({why})", silent_seconds=silent) from error

    async def delete_server(self, user: str, server_name: str) -> bool:
        """Stop a server. True when it is gone, False while it stops."""
        path = f"users/{_quoted(user)}/servers/{quote(server_name)}"
        reply = await self._call("DELETE", path, fine=(400, 404))
        return reply.status_code in {204, 404}

    async def delete_user(self, user: str) -> bool:
        """Delete a user. True when it is gone, False while one of its servers stops."""
        reply = await self._call("DELETE", f"users/{_quoted(user)}", fine=(400, 404, 424))
        return reply.status_code in {204, 404}

    async def listing(self) -> list[HubServer]:
        """Every user and server on the hub, page by page. One may be skipped when another is deleted meanwhile."""
        found: list[HubServer] = []
        offset, limit = 0, PAGE
        while True:
            reply = await self._call("GET", f"users?offset={offset}&limit={limit}")
            page = only_dict(reply.json())
            if "items" not in page:
                raise HubUnavailable("its listing has no pages")
            for user in page["items"]:
                found += _listed(user)
            following = only_dict(only_dict(page.get("_pagination")).get("next"))
            if not following:
                return found
            offset, limit = int(following["offset"]), int(following["limit"])


def _progress(event: dict[str, Any]) -> Progress:
    message = str(event.get("message") or "")
    if event.get("failed") and message in UNEXPLAINED_FAILURES:
        raise HubUnavailable("the start ended, and it does not say why: its proxy is away, or it is being stopped")
    return Progress(message, bool(event.get("ready")), bool(event.get("failed")), bool(event.get("is_sure")))


def _listed(user: dict[str, Any]) -> list[HubServer]:
    servers = only_dict(user.get("servers"))
    name = str(user.get("name"))
    if not servers:
        return [HubServer(name, None, {})]
    return [
        HubServer(name, key, only_dict(server.get("user_options")), bool(server.get("ready")), server.get("pending"))
        for key, server in servers.items()
    ]


def _trouble(status: int, body: bytes, retry_after: str | None) -> Exception:
    """What an error of the hub means for the launch."""
    try:
        message = str(only_dict(json.loads(body)).get("message") or "")
    except ValueError:
        message = ""
    said = f"it answered {status}" + (f": {message}" if message else "")
    sign = match_pattern(message)
    if sign and sign.means is Verdict.FATAL:
        return Diagnosis().failure(message)
    if status == 429 or status >= 500:
        return HubUnavailable(said, _seconds(retry_after), is_busy=status == 429)
    if status == 401 or (status == 403 and any(words in message for words in BAD_TOKEN)):
        return BinderyError("hub_token_refused", f"JupyterHub does not accept our token: {said}.")
    return BinderyError("hub_refused", f"JupyterHub refused: {said}.")


def _seconds(retry_after: str | None) -> float | None:
    """What a `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3). None for what is neither."""
    if not retry_after:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    with contextlib.suppress(ValueError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return None
