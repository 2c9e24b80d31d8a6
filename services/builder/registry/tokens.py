"""Bearer tokens: fetched from the realm that a registry names, and cached until shortly before they expire.

Source: distribution.github.io/distribution/spec/auth/token, and .../oauth for the exchange of a refresh token.
"""

import asyncio
import base64
import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cachetools import FIFOCache

from services.builder.registry.credentials import Login
from services.builder.registry.transport import RegistryUnavailable, Transport, retry_after_seconds
from services.common.net.http import only_dict
from services.common.net.reply import Reply
from services.common.service.logging import get_logger
from services.common.service.tasks import cancel_and_wait

log = get_logger(__name__)

CLIENT_ID = "bindery"
DEFAULT_LIFE_SECONDS = 60.0
"""Lifetime of a token whose reply does not name one; the specification's own value."""
_MAX_TOKENS = 1000


class RegistryDenied(Exception):
    """The registry does not accept our login, or does not grant it access.

    The message completes the sentence "it gives us no access: …".
    """


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """The purpose of a token, and its login: the key of the cache, so one login never gets another's token."""

    realm: str
    service: str
    scope: str
    login: Login


@dataclass(frozen=True)
class _Token:
    text: str
    expires: float


class Tokens:
    """The cached tokens of one registry. Concurrent calls for the same token share one request.

    Not on the services' `SingleFlight`: there a cancelled leader hands over and the request is sent again. Here the
    request runs in a task of its own, so that no caller's cancellation costs the token server a second one.
    """

    def __init__(self, transport: Transport, *, early_seconds: float) -> None:
        self._transport = transport
        self._early_seconds = early_seconds
        self._tokens: MutableMapping[TokenRequest, _Token] = FIFOCache(_MAX_TOKENS)
        self._fetches: dict[TokenRequest, asyncio.Task[str]] = {}

    async def get(self, request: TokenRequest, *, refused: str = "") -> str:
        """Return a token that is valid for some time; never `refused`, which the registry has turned down.

        Raise `RegistryDenied`, or `RegistryUnavailable` if the realm does not answer as specified.
        """
        token = self._tokens.get(request)
        if token and token.text != refused and token.expires > asyncio.get_running_loop().time():
            return token.text

        task = self._fetches.get(request)
        if task is None:
            task = asyncio.create_task(self._fetch(request), name=f"registry token {request.scope}")
            self._fetches[request] = task
            task.add_done_callback(lambda done: self._on_done(request, done))
        return await asyncio.shield(task)  # a cancelled caller leaves it to the others; the transport has a deadline

    def _on_done(self, request: TokenRequest, task: asyncio.Task[str]) -> None:
        self._fetches.pop(request, None)
        if not task.cancelled():
            task.exception()  # retrieved, in case no caller is left to raise it to

    async def _fetch(self, request: TokenRequest) -> str:
        host = urlsplit(request.realm).netloc.rpartition("@")[2]
        started = asyncio.get_running_loop().time()
        try:
            reply = await self._send(request)
        except RegistryUnavailable as error:
            raise RegistryUnavailable(f"its token server {host} can't be asked: {error}") from error

        if reply.status in {400, 401, 403}:
            log.warning(
                "registry_login_refused", realm=host, scope=request.scope, status=reply.status,
                login=request.login.username, note=request.login.note,
            )  # fmt: skip
            what = f"for {request.scope} ({reply.status})" if request.scope else f"({reply.status})"
            raise RegistryDenied(f"its token server {host} refuses {request.login.name} {what}")
        if reply.status != 200:
            raise RegistryUnavailable(f"its token server {host} answered {reply.status}", retry_after_seconds(reply))

        text, life_seconds = _parse(reply, host)
        early_seconds = min(self._early_seconds, life_seconds / 2)
        self._tokens[request] = _Token(text, started + life_seconds - early_seconds)
        return text

    async def _send(self, request: TokenRequest) -> Reply:
        parameters = {"service": request.service, "scope": request.scope}
        parameters = {name: value for name, value in parameters.items() if value}
        login = request.login

        if login.identity_token:
            form = parameters | {
                "grant_type": "refresh_token",
                "refresh_token": login.identity_token,
                "client_id": CLIENT_ID,
            }
            return await self._transport.request("POST", request.realm, form=form)

        headers = {} if login.is_anonymous else {"Authorization": basic_authorization(login)}
        return await self._transport.request("GET", request.realm, headers=headers, params=parameters)

    async def aclose(self) -> None:
        """Cancel the requests in flight."""
        await cancel_and_wait(*self._fetches.values())


def _parse(reply: Reply, host: str) -> tuple[str, float]:
    """Return a reply's token and its lifetime in seconds. Raise `RegistryUnavailable` if there is no token in it."""
    try:
        body = only_dict(json.loads(reply.body))
    except (ValueError, RecursionError):
        body = {}

    text = body.get("token") or body.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise RegistryUnavailable(f"its token server {host} answered without a token")

    life_seconds = body.get("expires_in")
    if not isinstance(life_seconds, int | float) or life_seconds <= 0:
        life_seconds = DEFAULT_LIFE_SECONDS
    return text, float(life_seconds)


def basic_authorization(login: Login) -> str:
    """Return the `Authorization` header of a name and password (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
