"""The API of an archive, as the listings ask it."""

from typing import Any
from urllib.parse import urlsplit

from services.builder.executors.process.session.archives.attempts import attempted, refusal
from services.builder.executors.process.session.archives.listing import not_understood
from services.common.net.outbound import CheckedClient
from services.common.net.reply import Reply

ANSWER_MAX_BYTES = 32 * 2**20
"""How long one reply may be: a listing has about a KiB for each file."""


class ArchiveApi:
    """Asks for JSON objects through the checked client."""

    def __init__(self, client: CheckedClient) -> None:
        self._client = client

    async def get(self, url: str, what: str) -> dict[str, Any]:
        """Return the JSON object at `url`; `what` says in sentences what was asked for.

        Raise `BinderyError`: `ref_not_found` (it does not exist or is not public), `address_not_allowed`,
        `repository_too_large` (a reply that is too long), `fetch_failed`.
        """
        return await attempted(lambda: self._get(url, what))

    async def post(self, url: str, what: str) -> dict[str, Any]:
        """Return the JSON object that an empty POST to `url` is answered with. Raise as `get` does."""
        return await attempted(lambda: self._post(url, what))

    async def _get(self, url: str, what: str) -> dict[str, Any]:
        reply = await self._client.get(url, headers={"Accept": "application/json"}, max_bytes=ANSWER_MAX_BYTES)
        return _object(reply, what)

    async def _post(self, url: str, what: str) -> dict[str, Any]:
        reply = await self._client.post(url, b"", headers={"Accept": "application/json"}, max_bytes=ANSWER_MAX_BYTES)
        return _object(reply, what)


def _object(reply: Reply, what: str) -> dict[str, Any]:
    host = urlsplit(reply.url).hostname or ""
    if reply.status != 200:
        raise refusal(reply.status, host, what, retry_after=reply.headers.get("Retry-After", ""))
    try:
        answer = reply.json()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise not_understood(host)
    return answer
