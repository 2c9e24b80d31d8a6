"""A client of Git LFS servers: the batch API, and the basic transfer of objects.

Source: docs/api/batch.md and docs/api/basic-transfers.md of git-lfs. Requests go through the checked client. What an
answer says for one address (URL and headers, which may hold tokens) goes there alone, and into no message.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from services.common.git.pointers import Pointer
from services.common.git.words import printable
from services.common.models.errors import BinderyError
from services.common.net.checked_url import checked_url
from services.common.net.outbound import CheckedClient
from services.common.net.reply import Reply
from services.common.service.redaction import quotable

BATCH_OBJECTS = 100
"""How many objects one request names; git-lfs asks for as many."""
PAUSES_SECONDS = (0.5, 2.0)
"""How long to wait before each further attempt, after a failure that may pass."""
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_USER_AGENT = {"User-Agent": "git-lfs/3.0 (Bindery)"}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_LOGIN = frozenset({401, 403})
_ABSENT = frozenset({404, 405, 410})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_THEIRS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "range",
     "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip

T = TypeVar("T")


class LfsError(Exception):
    """Contents can't be had: `reason` is a sentence for a log; `may_pass` if another attempt may succeed."""

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass


@dataclass(frozen=True)
class Action:
    """Where an object is, and the headers for that address. Either may be secret."""

    href: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class LfsServer:
    """The Git LFS server at `endpoint`, a URL that has been checked."""

    def __init__(self, client: CheckedClient, endpoint: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._host = urlsplit(endpoint).hostname or ""

    async def locate(self, pointers: Sequence[Pointer]) -> dict[str, Action | LfsError]:
        """Return by oid where each object is, or why it can't be had. Raise `LfsError` if that holds for all."""
        return await _attempted(lambda: self._batch(pointers))

    async def download(self, action: Action, pointer: Pointer, target: Path) -> None:
        """Write an object to `target`, checked against its pointer. Raise `LfsError`."""
        await _attempted(lambda: self._download(action, pointer, target))

    async def _batch(self, pointers: Sequence[Pointer]) -> dict[str, Action | LfsError]:
        wanted = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": pointer.oid, "size": pointer.size_bytes} for pointer in pointers],
        }
        reply = await self._client.post(
            f"{self._endpoint}/objects/batch",
            json.dumps(wanted).encode(),
            headers=_USER_AGENT | {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE},
        )
        if reply.status != 200:
            raise self._refusal(reply)

        answer = _object(reply)
        if answer.get("transfer") not in {None, "", "basic"}:
            raise LfsError(f"{self._host} offers them by another way than the basic transfer.")
        entries = answer.get("objects")
        if not isinstance(entries, list):
            raise LfsError(f"{self._host} does not answer as a Git LFS server.")

        found: dict[str, Action | LfsError] = {
            pointer.oid: LfsError(f"{self._host} does not say where they are.") for pointer in pointers
        }
        for entry in entries:
            if isinstance(entry, dict) and (oid := str(entry.get("oid"))) in found:
                found[oid] = self._place(entry)
        return found

    def _refusal(self, reply: Reply) -> LfsError:
        """Return the error for the status of a batch's answer, with the server's own message."""
        host = self._host
        status = reply.status
        said = _said(_object(reply).get("message"))
        if status in _LOGIN:
            return LfsError(f"{host} does not give them to everybody (it answered {status}{said}).")
        if status in _ABSENT:
            return LfsError(f"{host} has no Git LFS for the repository (it answered {status}{said}).")
        return LfsError(f"{host} answered {status}{said}.", may_pass=status in _PASSING)

    def _place(self, entry: Mapping[str, Any]) -> Action | LfsError:
        """Return where an object of a batch's answer is, or why it can't be had."""
        if isinstance(error := entry.get("error"), dict):
            code = error.get("code")
            said = _said(error.get("message"))
            return LfsError(f"{self._host} does not have them ({code if isinstance(code, int) else 'error'}{said}).")

        actions = entry.get("actions")
        action = actions.get("download") if isinstance(actions, dict) else None
        href = action.get("href") if isinstance(action, dict) else None
        if not isinstance(action, dict) or not isinstance(href, str):
            return LfsError(f"{self._host} does not say where they are.")

        try:
            url = checked_url(href)
        except BinderyError:  # whose message quotes the address
            return LfsError(f"{self._host} names an address for them that is not followed.")
        if url.scheme != "https" and self._endpoint.startswith("https:"):
            return LfsError(f"{self._host} leads from https to http, which is not followed.")

        headers = action.get("header")
        return Action(href, _usable_headers(headers) if isinstance(headers, dict) else {})

    async def _download(self, action: Action, pointer: Pointer, target: Path) -> None:
        digest = hashlib.sha256()
        received_bytes = 0
        async with self._client.download(action.href, headers=_USER_AGENT, own_headers=action.headers) as reply:
            if reply.status != 200:
                raise LfsError(f"{reply.host} answered {reply.status}.", may_pass=reply.status in _PASSING)

            with target.open("wb") as file:
                async for chunk in reply.chunks:
                    received_bytes += len(chunk)
                    if received_bytes > pointer.size_bytes:
                        break
                    digest.update(chunk)
                    file.write(chunk)

            if received_bytes != pointer.size_bytes or digest.hexdigest() != pointer.oid:
                raise LfsError(f"What {reply.host} sent is not what the pointers name (size or SHA-256).")


async def _attempted(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, which is repeated after a failure that may pass. Raise `LfsError`."""
    for pause_seconds in (*PAUSES_SECONDS, None):
        try:
            return await attempt()
        except BinderyError as error:
            failure = LfsError(error.detail, may_pass=error.has_code("provider_unavailable"))
        except LfsError as error:
            failure = error
        if pause_seconds is None or not failure.may_pass:
            break
        await asyncio.sleep(pause_seconds)
    raise failure


def _object(reply: Reply) -> dict[str, Any]:
    try:
        answer = reply.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _said(message: object) -> str:
    """Return a server's message to be quoted in a sentence; nothing if there is none."""
    text = printable(quotable(" ".join(message.split()))) if isinstance(message, str) else ""
    return f": {text}" if text else ""


def _usable_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of an action, without those that would change what the request is."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str)
        and _HEADER_NAME.fullmatch(name)
        and name.lower() not in _NOT_THEIRS
        and value.isascii()
        and value.isprintable()
    }
