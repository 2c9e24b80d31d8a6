"""A container engine's HTTP API (Docker Engine 20.10 and later, and Podman's of the same kind), over a socket or TCP.

Straight on aiohttp: aiodocker (0.27) joins a log's frames and decodes them strictly; here a frame's beginning is what
tells a timestamp from text that looks like one, and text may be any bytes.
Source: https://docs.docker.com/reference/api/engine/
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.docker.settings import DockerSettings

_DETAIL_MAX = 500


class EngineError(Exception):
    """The engine refused a request; `status` is 4xx and the message is the engine's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineFailedError(ExecutorUnavailableError):
    """The engine failed inside itself, or at something that it needs (5xx)."""


class Engine:
    """Calls of one engine. Each raises `ExecutorUnavailableError` when it does not answer, or fails inside itself."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """One request with its whole answer, read as JSON where it is that. Raises `EngineError`."""
        async with self._asked(method, path, query, body) as reply:
            content = await reply.read()
        return json.loads(content) if content.lstrip()[:1] in {b"{", b"["} else None

    async def read(self, path: str, *, query: Mapping[str, str] | None = None) -> bytes:
        """The bytes that a GET answers with. Raises `EngineError`."""
        async with self._asked("GET", path, query, None) as reply:
            return await reply.read()

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, quiet_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer that goes on; reading it raises `TimeoutError` after `quiet_seconds` of silence."""
        async with self._asked("GET", path, query, None, quiet_seconds=quiet_seconds) as reply:
            yield reply.content

    async def pull(self, image: str) -> str | None:
        """Have the engine pull an image; why that failed, or None. Raises `EngineError`, `EngineFailedError`."""
        query = (
            {"fromImage": image}
            if "@" in image or ":" in image.rpartition("/")[2]
            else {"fromImage": f"{image}:latest"}
        )
        failed = None
        async with self._asked(
            "POST", "/images/create", query, None, quiet_seconds=self._settings.docker_pull_seconds
        ) as reply:
            async for raw in reply.content:
                with contextlib.suppress(ValueError):
                    failed = json.loads(raw).get("error") or failed
        return failed

    async def aclose(self) -> None:
        """Let go of connections."""
        if self._session:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        *,
        quiet_seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data, kind = (body, "application/x-tar") if isinstance(body, bytes) else (json.dumps(body), "application/json")
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=self._settings.docker_connect_seconds,
            sock_connect=self._settings.docker_connect_seconds,
            sock_read=quiet_seconds or self._settings.docker_read_seconds,
        )
        try:
            async with self._open().request(
                method,
                path,
                params=query,
                data=None if body is None else data,
                headers=None if body is None else {"Content-Type": kind},
                timeout=timeout,
            ) as reply:
                if reply.status >= 400:
                    await _refuse(reply)
                yield reply
        except aiohttp.SocketTimeoutError:
            if quiet_seconds:
                raise
            raise ExecutorUnavailableError(f"no answer within {self._settings.docker_read_seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ExecutorUnavailableError(f"{type(error).__name__}: {error}"[:_DETAIL_MAX]) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            host = self._settings.docker_host
            # A log that is followed holds a connection for as long as its build runs: no limit but the slots.
            is_socket = host.startswith("unix://")
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(path=host.removeprefix("unix://"), limit=0)
                if is_socket
                else aiohttp.TCPConnector(limit=0)
            )
            base = "http://engine" if is_socket else f"http://{host.removeprefix('tcp://')}"
            self._session = aiohttp.ClientSession(base, connector=connector)
        return self._session


async def _refuse(reply: aiohttp.ClientResponse) -> None:
    content = await reply.read()
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode("utf-8", "replace")
    if reply.status >= 500:
        raise EngineFailedError(f"{reply.status}: {message}"[:_DETAIL_MAX])
    raise EngineError(reply.status, message[:_DETAIL_MAX])


def image_path(image: str) -> str:
    """The path of an image; its name may hold slashes."""
    return f"/images/{quote(image, safe='/:@')}/json"
