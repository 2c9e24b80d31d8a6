"""Bearer tokens: fetched from the realm that a registry names, kept until shortly before they expire.

Source: distribution.github.io/distribution/spec/auth/token, and .../oauth for the exchange of a refresh token.
"""

import asyncio
import base64
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.builder.registry.credentials import Login
from services.builder.registry.transport import Answer, Away, Transport, retry_after
from services.common.net.http import only_dict
from services.common.service.logging import get_logger

log = get_logger(__name__)

CLIENT_ID = "bindery"
LIFE_SECONDS = 60.0
"""How long a token lives whose answer does not say; the specification's own value."""
KEPT = 1000


class Refused(Exception):
    """Who we are, or what we may do, is not accepted; the message is a part of a sentence, as that of `Away`."""


@dataclass(frozen=True)
class Wanted:
    """What a token is for. Tokens are kept by it, so those of another login are never used."""

    realm: str
    service: str
    scope: str
    login: Login


@dataclass(frozen=True)
class _Token:
    text: str
    expires: float


class Tokens:
    """The tokens of one registry. However many ask for the same one at once, it is fetched once."""

    def __init__(self, transport: Transport, *, early_seconds: float) -> None:
        self._transport = transport
        self._early_seconds = early_seconds
        self._kept: dict[Wanted, _Token] = {}
        self._fetching: dict[Wanted, asyncio.Task[str]] = {}

    async def get(self, wanted: Wanted, *, refused: str = "") -> str:
        """A token that is good for a while yet; never `refused`, which the registry has turned down.

        Raises `Refused`, and `Away` where the realm does not answer as it should.
        """
        kept = self._kept.get(wanted)
        if kept and kept.text != refused and kept.expires > asyncio.get_running_loop().time():
            return kept.text
        task = self._fetching.get(wanted)
        if task is None:
            task = asyncio.create_task(self._fetch(wanted), name=f"registry token {wanted.scope}")
            self._fetching[wanted] = task
            task.add_done_callback(lambda done: self._fetched(wanted, done))
        return await asyncio.shield(task)  # who gives up leaves it to the others; the transport bounds it

    def _fetched(self, wanted: Wanted, task: asyncio.Task[str]) -> None:
        self._fetching.pop(wanted, None)
        if not task.cancelled():
            task.exception()  # told to those who wait; nobody may be left

    async def _fetch(self, wanted: Wanted) -> str:
        host = urlsplit(wanted.realm).netloc.rpartition("@")[2]
        begun = asyncio.get_running_loop().time()
        try:
            answer = await self._ask(wanted)
        except Away as error:
            raise Away(f"its token server {host} can't be asked: {error}") from error
        if answer.status in {400, 401, 403}:
            log.warning(
                "registry_login_refused", realm=host, scope=wanted.scope, status=answer.status,
                login=wanted.login.username, note=wanted.login.note,
            )  # fmt: skip
            what = f"for {wanted.scope} ({answer.status})" if wanted.scope else f"({answer.status})"
            raise Refused(f"its token server {host} refuses {wanted.login.name} {what}")
        if answer.status != 200:
            raise Away(f"its token server {host} answered {answer.status}", retry_after(answer))
        text, life = _read(answer, host)
        early = min(self._early_seconds, life / 2)
        while len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept.pop(wanted, None)
        self._kept[wanted] = _Token(text, begun + life - early)
        return text

    async def _ask(self, wanted: Wanted) -> Answer:
        asked = {name: value for name, value in (("service", wanted.service), ("scope", wanted.scope)) if value}
        if wanted.login.identity_token:
            form = asked | {
                "grant_type": "refresh_token",
                "refresh_token": wanted.login.identity_token,
                "client_id": CLIENT_ID,
            }
            return await self._transport.request("POST", wanted.realm, form=form)
        headers = {} if wanted.login.is_anonymous else {"Authorization": basic(wanted.login)}
        return await self._transport.request("GET", wanted.realm, headers=headers, params=asked)

    async def aclose(self) -> None:
        """End what is being fetched."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read(answer: Answer, host: str) -> tuple[str, float]:
    """(the token, its life in seconds). Raises `Away` where there is none."""
    try:
        body = only_dict(json.loads(answer.body))
    except ValueError:
        body = {}
    text = body.get("token") or body.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise Away(f"its token server {host} answered without a token")
    life = body.get("expires_in")
    return text, float(life) if isinstance(life, int | float) and life > 0 else LIFE_SECONDS


def basic(login: Login) -> str:
    """The `Authorization` header of a name and password (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
