"""The API server's REST protocol, as JSON, with timeouts on every call.

Configuration, authentication and sessions are those of kubernetes-asyncio.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from prometheus_client import Counter

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import Json
from services.builder.executors.kubernetes.unreadable import UnreadableLineError
from services.common.net.http import CALLS, only_dict
from services.common.service.call_accounting import call_reason

JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
PODS = "/api/v1/namespaces/{namespace}/pods"
EVENTS = "/api/v1/namespaces/{namespace}/events"
SECRETS = "/api/v1/namespaces/{namespace}/secrets"
CONFIG_MAPS = "/api/v1/namespaces/{namespace}/configmaps"

REQUESTS = Counter(
    "bindery_kubernetes_requests_total", "Requests of the Kubernetes API server, by method and kind", ["method", "kind"]
)
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_UNAVAILABLE_STATUSES = frozenset({401, 408, 429})
_CHUNK_BYTES = 65536
_PAGE_OBJECTS = "500"
_MAX_DETAIL_CHARS = 500


class ApiError(Exception):
    """The API server refused a request; `status` is HTTP's and `message` the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Clients(NamedTuple):
    """Two pools of connections, so that streams, which stay open, never keep calls waiting."""

    calls: ApiClient
    streams: ApiClient


class Api:
    """A client of one API server; it connects with the first call.

    Every call may raise `ExecutorUnavailableError` (no answer, or none for us at the moment) or `ApiError`.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._opening = asyncio.Lock()
        self._clients: _Clients | None = None
        self._namespace = settings.kubernetes_namespace

    async def call(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None) -> Json:
        """Send a request and return its reply. `{namespace}` in the path stands for ours; a PATCH is a merge patch."""
        with _connection_errors_translated():
            client = (await self._open()).calls
            response = await self._send(client, method, path, query=query, body=body, timeout=self._call_timeout)
            async with response:
                content = await response.read()
        return _parse_reply(response.status, content)

    async def read_end(self, path: str, query: Mapping[str, str], *, max_bytes: int) -> bytes:
        """Return the last bytes of a text."""
        with _connection_errors_translated():
            client = (await self._open()).calls
            response = await self._send(client, "GET", path, query=query, body=None, timeout=self._call_timeout)
            async with response:
                content = b""
                while chunk := await response.content.read(_CHUNK_BYTES):
                    content = (content + chunk)[-max_bytes:]

        if response.status != 200:
            _parse_reply(response.status, content)
        return content

    async def pages(self, path: str, selector: Mapping[str, str]) -> AsyncIterator[Json]:
        """Yield the list of the objects that `selector` (query parameters) picks, a page at a time.

        All pages are of one moment. Each has `metadata` with a version, and `items`, of whatever shape they are.
        """
        query = {**selector, "limit": _PAGE_OBJECTS}
        while True:
            page = await self.call("GET", path, query=query)
            metadata = only_dict(page.get("metadata"))
            items = page.get("items") or []
            if not metadata.get("resourceVersion") or not isinstance(items, list):
                raise ExecutorUnavailableError("the API server sends a list that can't be read")
            yield {"metadata": metadata, "items": items}

            token = metadata.get("continue")
            if not token:
                return
            query["continue"] = str(token)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, quiet_seconds: float
    ) -> AsyncIterator["ResponseStream"]:
        """Open a reply that goes on, on a connection of its own; each read of it may take `quiet_seconds`."""
        timeout = aiohttp.ClientTimeout(
            sock_connect=self._settings.kubernetes_connect_timeout_seconds, sock_read=quiet_seconds
        )
        with _connection_errors_translated():
            client = (await self._open()).streams
            async with asyncio.timeout(self._settings.kubernetes_read_timeout_seconds):  # until the reply begins
                response = await self._send(client, "GET", path, query=query, body=None, timeout=timeout)

        try:
            if response.status != 200:
                with _connection_errors_translated():
                    content = await response.read()
                _parse_reply(response.status, content)
            yield ResponseStream(response)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients or ():
            await client.close()
        self._clients = None

    @property
    def _call_timeout(self) -> aiohttp.ClientTimeout:
        settings = self._settings
        return aiohttp.ClientTimeout(
            total=settings.kubernetes_connect_timeout_seconds + settings.kubernetes_read_timeout_seconds,
            sock_connect=settings.kubernetes_connect_timeout_seconds,
            sock_read=settings.kubernetes_read_timeout_seconds,
        )

    async def _send(
        self,
        client: ApiClient,
        method: str,
        path: str,
        *,
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
        response: aiohttp.ClientResponse = await client.call_api(
            path.replace("{namespace}", self._namespace),
            method,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=timeout,
        )

        if response.status == 401:  # the token has expired: the next call uses what the configuration has by then
            current = await self._configuration()
            for ours in self._clients or ():
                ours.configuration.api_key = current.api_key
        return response

    async def _open(self) -> _Clients:
        async with self._opening:
            if self._clients is None:
                for_calls = await self._configuration()
                for_calls.connection_pool_maxsize = self._settings.kubernetes_connections
                for_streams = await self._configuration()
                # Each build that is followed has a stream, and builds that are taken over come on top of the slots.
                for_streams.connection_pool_maxsize = 0  # no limit
                self._clients = _Clients(calls=ApiClient(for_calls), streams=ApiClient(for_streams))
            return self._clients

    async def _configuration(self) -> Configuration:
        """Read the address of the API server and the credentials for it, and set our namespace."""
        path = self._settings.kubernetes_config or os.environ.get("KUBECONFIG", "")
        configuration = Configuration()
        try:
            if not path and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
                namespace = OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"
            else:
                path = str(Path(path or KUBE_CONFIG_DEFAULT_LOCATION).expanduser())
                namespace = await self._load_kubeconfig(path, configuration)
        except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise ExecutorUnavailableError(f"no Kubernetes configuration can be used ({error})") from None

        self._namespace = self._settings.kubernetes_namespace or namespace
        return configuration

    async def _load_kubeconfig(self, path: str, configuration: Configuration) -> str:
        """Fill in the configuration from a kubeconfig file, and return the namespace of its context."""
        context_name = self._settings.kubernetes_context or None
        await config.load_kube_config(path, context_name, configuration, persist_config=False)
        contexts, current_context = config.list_kube_config_contexts(path)
        context = next((entry for entry in contexts if entry["name"] == context_name), current_context)
        namespace: str = context["context"].get("namespace", "default")
        return namespace


class ResponseStream:
    """The body of a reply that goes on, read as it arrives."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content

    async def read(self) -> bytes:
        """Return the next bytes; nothing at the end."""
        with _connection_errors_translated():
            return await self._content.read(_CHUNK_BYTES)

    async def read_line(self) -> bytes:
        """Return the next line; nothing at the end. Raise `UnreadableLineError` for one that is too long."""
        with _connection_errors_translated():
            try:
                return await self._content.readline()
            except LineTooLong:  # longer than the buffer that kubernetes-asyncio's session has
                raise UnreadableLineError("it is too long") from None


def _parse_reply(status: int, content: bytes) -> Json:
    """Return a reply's JSON object. Raise `ExecutorUnavailableError` or `ApiError` for an error status."""
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        reply = None
    fields: Json = reply if isinstance(reply, dict) else {}
    if 200 <= status < 300:
        if not fields:
            raise ExecutorUnavailableError(f"the API server answers {status} with what can't be read")
        return fields

    message = str(fields.get("message") or content[:_MAX_DETAIL_CHARS].decode("utf-8", "replace") or status)
    if status in _UNAVAILABLE_STATUSES or status >= 500:
        raise ExecutorUnavailableError(f"the API server answers {status} ({message})")
    raise ApiError(status, message)


@contextlib.contextmanager
def _connection_errors_translated() -> Iterator[None]:
    """Raise `ExecutorUnavailableError` for each error of the connection or of the client library."""
    try:
        yield
    except (aiohttp.ClientError, ApiException, TimeoutError, OSError, ValueError) as error:
        detail = str(error) or type(error).__name__
        raise ExecutorUnavailableError(f"the API server can't be reached ({detail})") from None
