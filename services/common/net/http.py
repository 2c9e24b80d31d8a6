"""HTTP clients for our services and JupyterHub: pooled, with a deadline on every step.

They use aiohttp directly: a call costs a third of the CPU that it costs through httpx on the same transport, and a
launch makes four.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

import aiohttp
from prometheus_client import Counter
from yarl import URL

from services.common.models import Problem
from services.common.models.error_codes import ErrorCode, known_code
from services.common.models.errors import BinderyError
from services.common.models.problem import PROBLEM_MEDIA_TYPE
from services.common.net.failures import failure_reason
from services.common.net.reply import Reply
from services.common.service.call_accounting import call_reason
from services.common.service.correlation import SERVICE_HEADER, outgoing_headers
from services.common.service.health import HealthRow
from services.common.service.settings import CLIENT_KEEPALIVE_SECONDS

CALLS = Counter("bindery_http_calls_total", "HTTP calls made, by the peer that was called", ["peer", "doing"])


class PeerUnreachable(Exception):
    """The peer can't be reached, did not answer in time, or broke off; the message says so in a few words."""


def unix_socket(url: str) -> str:
    """Return the decoded path of a `unix://` URL, or "" for another URL. Raise `ValueError` if it is relative."""
    scheme, _, rest = url.partition("://")
    if scheme != "unix":
        return ""
    if not rest.startswith("/"):
        raise ValueError(f"{url} names no absolute path: write it as unix:///run/bindery/its.socket")
    return unquote(rest)


class PooledClient:
    """A client for one peer, at `http://host:port` or `unix:///path/of/its.socket` (percent-encoded).

    `read_seconds=None` is for streams, whose caller owns the deadline. Requests are counted by peer in
    `bindery_http_calls_total`. Redirects are not followed, no proxy is used, and cookies are not kept. Paths are sent
    as they are given: the caller percent-encodes them.
    """

    def __init__(
        self,
        base_url: str,
        *,
        peer: str,
        token: str = "",
        scheme: str = "Bearer",
        connect_seconds: float = 3.0,
        read_seconds: float | None = 30.0,
        connections: int = 200,
    ) -> None:
        self._socket = unix_socket(base_url)
        self._base = "http://localhost/" if self._socket else base_url.rstrip("/") + "/"
        self._peer = peer
        self._headers = {"Authorization": f"{scheme} {token}"} if token else {}
        # `connect` bounds the wait for a free connection of the pool, or for a new one.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=30.0, sock_connect=connect_seconds, sock_read=read_seconds
        )
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # created by the first call, as it belongs to the loop that runs then
            connector: aiohttp.BaseConnector
            if self._socket:
                connector = aiohttp.UnixConnector(
                    self._socket, limit=self._connections, keepalive_timeout=CLIENT_KEEPALIVE_SECONDS
                )
            else:
                # No cache of names: a container that is made anew may get the address that another one had.
                connector = aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=CLIENT_KEEPALIVE_SECONDS,
                    resolver=aiohttp.ThreadedResolver(), use_dns_cache=False,
                )  # fmt: skip

            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _url(self, path: str) -> URL:
        absolute = path if path.startswith(("http://", "https://")) else self._base + path.lstrip("/")
        return URL(absolute, encoded=True)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json_body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and return the reply, of any status. `path` may be a whole URL. Raise `PeerUnreachable`."""
        CALLS.labels(self._peer, call_reason()).inc()
        if json_body is not None:
            headers = {"Content-Type": "application/json", **(headers or {})}

        url = self._url(path)
        try:
            async with self._open().request(
                method, url.with_query(params) if params else url, data=json_body, headers=headers,
                allow_redirects=False,
            ) as response:  # fmt: skip
                return Reply(status=response.status, headers=response.headers, body=await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise PeerUnreachable(failure_reason(error, self._timeout)) from error

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET whose body the block reads in chunks. Raise `PeerUnreachable`, also if the stream breaks off."""
        CALLS.labels(self._peer, call_reason()).inc()
        try:
            async with self._open().get(self._url(path), headers=headers, allow_redirects=False) as reply:
                yield reply
        except (aiohttp.ClientError, OSError) as error:
            raise PeerUnreachable(failure_reason(error, self._timeout)) from error

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


class ServiceClient:
    """Another of our services. Every failure is a `BinderyError`: the peer's own, or `<service>_unavailable`.

    Each call says which service it is meant for. Another one, which has got that one's address, refuses it.
    """

    def __init__(self, client: PooledClient, *, service: str) -> None:
        self._client = client
        self._unavailable: ErrorCode = known_code(f"{service}_unavailable")
        self._headers = {SERVICE_HEADER: service}

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: str | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request, with the ids that tie its log lines to ours, and return the 2xx reply.

        Raise `BinderyError`: the problem that the peer answered, or `<service>_unavailable` if it can't be reached or
        answers another status without a problem.
        """
        body = content.encode() if content is not None else None
        headers = self._headers | outgoing_headers() | (headers or {})
        try:
            reply = await self._client.request(method, path, json_body=body, params=params, headers=headers)
        except PeerUnreachable as error:
            raise BinderyError(self._unavailable, f"No answer ({error}).") from error
        if reply.is_success:
            return reply
        if reply.headers.get("content-type", "").startswith(PROBLEM_MEDIA_TYPE):
            raise BinderyError.of(Problem.model_validate_json(reply.body))
        raise BinderyError(self._unavailable, f"It answered {reply.status}.")

    async def health(self) -> list[HealthRow]:
        """Return the rows of the peer's health report, healthy or not. Raise `BinderyError` if it can't be reached."""
        try:
            reply = await self._client.request("GET", "/health", headers=self._headers)
            rows: list[HealthRow] = reply.json()["checks"]
        except PeerUnreachable as error:
            raise BinderyError(self._unavailable, f"No answer ({error}).") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BinderyError(self._unavailable, f"No answer ({type(error).__name__}).") from error
        return rows

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def only_dict(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
