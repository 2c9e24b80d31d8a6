"""A container engine's HTTP API (Docker Engine 20.10 and later, and Podman's of the same kind), over a socket or TCP.

Directly on aiohttp: aiodocker (0.27) joins a log's frames and decodes them strictly; here the beginning of a frame
distinguishes a timestamp from text that looks like one, and text may be any bytes.
Source: https://docs.docker.com/reference/api/engine/
"""

import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.docker.settings import DockerSettings
from services.common.net.http import only_dict

_MAX_DETAIL_CHARS = 500


class EngineError(Exception):
    """The engine refused a request; `status` is 4xx and the message is the engine's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineFailedError(ExecutorUnavailableError):
    """The engine had an internal failure, or one of something that it needs (5xx)."""


class Engine:
    """A client of one engine. Each call raises `ExecutorUnavailableError` if it does not answer, or answers 5xx."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """Send a request and return its reply: parsed if it is JSON, else None. Raise `EngineError`."""
        async with self._request(method, path, query=query, body=body) as response:
            content = await response.read()
        if content.lstrip()[:1] not in {b"{", b"["}:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ExecutorUnavailableError("its reply can't be read") from None

    async def read(self, path: str, *, query: Mapping[str, str] | None = None) -> bytes:
        """Return the bytes that a GET answers with. Raise `EngineError`."""
        async with self._request("GET", path, query=query) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, quiet_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a reply that goes on; reading it raises `TimeoutError` after `quiet_seconds` of silence."""
        async with self._request("GET", path, query=query, quiet_seconds=quiet_seconds) as response:
            yield response.content

    async def pull(self, image: str) -> str | None:
        """Have the engine pull an image; return why that failed, or None.

        Raise `EngineError`, and `EngineFailedError` for a 5xx.
        """
        has_tag = "@" in image or ":" in image.rpartition("/")[2]
        query = {"fromImage": image if has_tag else f"{image}:latest"}
        quiet_seconds = self._settings.docker_pull_seconds

        failure = None
        async with self._request("POST", "/images/create", query=query, quiet_seconds=quiet_seconds) as response:
            async for raw in response.content:
                with contextlib.suppress(ValueError):
                    failure = only_dict(json.loads(raw)).get("error") or failure
        return failure

    async def aclose(self) -> None:
        """Close connections."""
        if self._session:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        quiet_seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, with a tar (bytes) or a JSON value as its body.

        With `quiet_seconds`, silence raises `TimeoutError` out of the block; without, `ExecutorUnavailableError`.
        """
        data: bytes | str | None = None
        headers = None
        if isinstance(body, bytes):
            data = body
            headers = {"Content-Type": "application/x-tar"}
        elif body is not None:
            data = json.dumps(body)
            headers = {"Content-Type": "application/json"}

        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=self._settings.docker_connect_seconds,
            sock_connect=self._settings.docker_connect_seconds,
            sock_read=quiet_seconds or self._settings.docker_read_seconds,
        )
        request = self._open().request(method, path, params=query, data=data, headers=headers, timeout=timeout)

        try:
            async with request as response:
                if response.status >= 400:
                    await _raise_error(response)
                yield response
        except aiohttp.SocketTimeoutError:
            if quiet_seconds:
                raise
            raise ExecutorUnavailableError(f"no answer within {self._settings.docker_read_seconds:g} s") from None
        except (aiohttp.ClientError, LineTooLong, OSError) as error:
            raise ExecutorUnavailableError(self._problem_of(error)[:_MAX_DETAIL_CHARS]) from error

    def _problem_of(self, error: Exception) -> str:
        """Return why the engine can't be reached; for its socket with what to do."""
        host = self._settings.docker_host
        path = host.removeprefix("unix://")
        if path == host or not isinstance(error, OSError):
            return f"{type(error).__name__}: {error}"
        if error.errno == errno.EACCES:
            return (
                f"this process, of user {os.getuid()}, may not open {path}: give it the socket's group (`stat -c %g "
                f"{path}` prints that; with docker-compose.yml, DOCKER_GID in .env)"
            )
        if error.errno == errno.ENOENT:
            return f"there is no socket {path}: start the engine, or name its socket in BINDERY_DOCKER_HOST"
        if error.errno == errno.ECONNREFUSED:
            return f"nothing listens at {path}: start the engine"
        return f"{type(error).__name__}: {error}"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Following a log holds a connection for as long as its build runs: the slots are the only limit.
            host = self._settings.docker_host
            connector: aiohttp.BaseConnector
            if host.startswith("unix://"):
                connector = aiohttp.UnixConnector(path=host.removeprefix("unix://"), limit=0)
                base_url = "http://engine"
            else:
                connector = aiohttp.TCPConnector(limit=0)
                base_url = f"http://{host.removeprefix('tcp://')}"

            self._session = aiohttp.ClientSession(base_url, connector=connector)
        return self._session


async def _raise_error(response: aiohttp.ClientResponse) -> NoReturn:
    """Raise `EngineError`, or `EngineFailedError` for a 5xx, with the engine's own message."""
    content = await response.read()
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode("utf-8", "replace")

    if response.status >= 500:
        raise EngineFailedError(f"{response.status}: {message}"[:_MAX_DETAIL_CHARS])
    raise EngineError(response.status, message[:_MAX_DETAIL_CHARS])


def image_path(image: str) -> str:
    """Return the path of an image in the API; its name may contain slashes."""
    return f"/images/{quote(image, safe='/:@')}/json"
