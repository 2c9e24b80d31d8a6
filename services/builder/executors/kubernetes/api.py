"""The API server's REST, as JSON: kubernetes-asyncio's configuration and sessions, with timeouts on every call."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from prometheus_client import Counter

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.common.net.http import CALLS
from services.common.service.call_accounting import call_reason

Json = dict[str, Any]
REQUESTS = Counter(
    "bindery_kubernetes_requests_total", "Requests of the Kubernetes API server, by method and kind", ["method", "kind"]
)
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_AWAY = frozenset({401, 408, 429})
_STREAM_BYTES = 65536


class ApiError(Exception):
    """The API server's answer to a request that it will not do: `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Api:
    """One process's connections to one API server, made with the first call.

    Every call may raise `ExecutorUnavailableError` (it does not answer, or not to us now) or `ApiError`.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._opening = asyncio.Lock()
        self._calls: ApiClient | None = None
        self._streams: ApiClient | None = None
        self._namespace = settings.kubernetes_namespace

    async def namespace(self) -> str:
        """Where Jobs run."""
        await self._open()
        return self._namespace

    async def call(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None) -> Json:
        """Make one call of `path`, in which `{namespace}` is ours, and return the reply.

        A PATCH's body is a merge patch.
        """
        settings = self._settings
        timeout = aiohttp.ClientTimeout(
            total=settings.kubernetes_connect_timeout_seconds + settings.kubernetes_read_timeout_seconds,
            sock_connect=settings.kubernetes_connect_timeout_seconds,
            sock_read=settings.kubernetes_read_timeout_seconds,
        )
        with _translated():
            client = (await self._open())[0]
            reply = await self._send(client, method, path, query, body, timeout)
            async with reply:
                content = await reply.read()
        return _parsed(reply.status, content)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, quiet_seconds: float) -> AsyncIterator["Chunks"]:
        """A reply that goes on, and has a connection of its own; each read may take `quiet_seconds`."""
        timeout = aiohttp.ClientTimeout(
            sock_connect=self._settings.kubernetes_connect_timeout_seconds, sock_read=quiet_seconds
        )
        with _translated():
            client = (await self._open())[1]
            async with asyncio.timeout(self._settings.kubernetes_read_timeout_seconds):  # for the reply to begin
                reply = await self._send(client, "GET", path, query, None, timeout)
        try:
            if reply.status != 200:
                with _translated():
                    content = await reply.read()
                _parsed(reply.status, content)
            yield Chunks(reply)
        finally:
            reply.close()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in (self._calls, self._streams):
            if client:
                await client.close()
        self._calls = self._streams = None

    async def _send(
        self,
        client: ApiClient,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        CALLS.labels("kubernetes", call_reason()).inc()
        kind = "log" if path.endswith("/log") else path.partition("{namespace}/")[2].partition("/")[0]
        REQUESTS.labels(method, kind).inc()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        reply: aiohttp.ClientResponse = await client.call_api(
            path.replace("{namespace}", self._namespace), method, query_params=list((query or {}).items()),
            header_params=headers, body=body, auth_settings=["BearerToken"], _preload_content=False,
            _request_timeout=timeout,
        )  # fmt: skip
        if reply.status == 401:  # the token has run out: the next call has what the configuration says by now
            fresh = await self._configuration()
            for one in filter(None, (self._calls, self._streams)):
                one.configuration.api_key = fresh.api_key
        return reply

    async def _open(self) -> tuple[ApiClient, ApiClient]:
        async with self._opening:
            if self._calls is None or self._streams is None:
                calls = await self._configuration()
                calls.connection_pool_maxsize = self._settings.kubernetes_connections
                self._calls = ApiClient(calls)
                streams = await self._configuration()
                streams.connection_pool_maxsize = self._settings.build_slots + 8
                self._streams = ApiClient(streams)
            return self._calls, self._streams

    async def _configuration(self) -> Configuration:
        settings, found = self._settings, Configuration()
        path = settings.kubernetes_config or os.environ.get("KUBECONFIG", "")
        try:
            if not path and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=found)
                own = OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"
            else:
                path = str(Path(path or KUBE_CONFIG_DEFAULT_LOCATION).expanduser())
                context = settings.kubernetes_context or None
                await config.load_kube_config(path, context, found, persist_config=False)
                contexts, current = config.list_kube_config_contexts(path)
                chosen = next((one for one in contexts if one["name"] == context), current)
                own = chosen["context"].get("namespace", "default")
        except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise ExecutorUnavailableError(f"no Kubernetes configuration can be used ({error})") from None
        self._namespace = settings.kubernetes_namespace or own
        return found


class Chunks:
    """The bytes of a reply that goes on, as they come."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._content = reply.content

    async def read(self) -> bytes:
        """What has come; nothing at the end."""
        with _translated():
            return await self._content.read(_STREAM_BYTES)

    async def line(self) -> bytes:
        """The next line; nothing at the end."""
        with _translated():
            return await self._content.readline()


def _parsed(status: int, content: bytes) -> Json:
    try:
        found = json.loads(content)
    except ValueError:
        found = {"message": content[:500].decode("utf-8", "replace")}
    if 200 <= status < 300:
        return found if isinstance(found, dict) else {}
    message = str(found.get("message") or status) if isinstance(found, dict) else str(status)
    if status in _AWAY or status >= 500:
        raise ExecutorUnavailableError(f"the API server answers {status} ({message})")
    raise ApiError(status, message)


@contextlib.contextmanager
def _translated() -> Any:
    try:
        yield
    except (aiohttp.ClientError, ApiException, TimeoutError, OSError, ValueError) as error:
        said = str(error) or type(error).__name__
        raise ExecutorUnavailableError(f"the API server can't be reached ({said})") from None
