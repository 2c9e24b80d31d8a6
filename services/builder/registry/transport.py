"""HTTP to a registry and to the realms that it names: pooled, with a limit on everything, and failures as sentences."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from services.builder.registry.settings import RegistrySettings
from services.common.net.failures import failure_reason
from services.common.net.hosts import plain_host
from services.common.net.http import CALLS
from services.common.net.reply import Reply
from services.common.service.backoff import Backoff
from services.common.service.call_accounting import call_reason

REDIRECTS_MAX = 5
"""Some registries redirect to another region's host; credentials are not sent on to it."""


class RegistryUnavailable(Exception):
    """The registry did not answer, or not usefully. The message completes the sentence "it can't be asked: …"."""

    def __init__(self, why: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_seconds = retry_after_seconds


class Transport:
    """A sender of requests for the registry, through the outbound proxy unless `goes_outside` is false.

    Raise `ValueError` if the CA file can't be used.
    """

    def __init__(self, settings: RegistrySettings, *, goes_outside: bool = True) -> None:
        self._settings = settings
        self._proxy = settings.proxy if goes_outside else None
        self._tls = _tls_context(settings)
        self._timeout = aiohttp.ClientTimeout(
            total=settings.registry_wait_seconds,
            sock_connect=settings.registry_connect_seconds,
            sock_read=settings.registry_read_seconds,
        )
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # opened by the first request: it belongs to the loop that runs then
            connector = aiohttp.TCPConnector(ssl=self._tls, keepalive_timeout=30, resolver=aiohttp.ThreadedResolver())
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request and return its reply, whatever the status; repeat it if the connection breaks.

        Raise `RegistryUnavailable`.
        """
        backoff = Backoff(first_seconds=0.1, longest_seconds=self._settings.registry_wait_seconds, jitter=0.0)
        retries_left = self._settings.registry_retries
        while True:
            try:
                return await self._send(method, url, headers=headers, params=params, form=form)
            except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
                if retries_left == 0 or not _is_transient(error):
                    raise RegistryUnavailable(self._reason(error)) from error

            retries_left -= 1
            await backoff.sleep()

    async def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
    ) -> Reply:
        CALLS.labels("registry", call_reason()).inc()
        request = self._open().request(
            method, url, headers=headers, params=params, data=form, max_redirects=REDIRECTS_MAX,
            **self._proxy_options(url),
        )  # fmt: skip
        async with request as response:
            body = b""
            if method != "HEAD":
                body = await self._read(response)
            return Reply(status=response.status, headers=response.headers, body=body)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.registry_answer_max_bytes
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise RegistryUnavailable(f"its answer is larger than {limit} bytes")
        return body

    def _proxy_options(self, url: str) -> dict[str, Any]:
        """Return aiohttp's options for the proxy. A redirect takes the same way as the first URL."""
        host = plain_host(urlsplit(url).hostname or "")
        if self._proxy is None or host is None or not self._proxy.serves(host):
            return {}
        if self._proxy.login is None:
            return {"proxy": self._proxy.url}

        # aiohttp sends this as Proxy-Authorization, to the proxy alone, in a CONNECT and in a plain request.
        authorization = aiohttp.encode_basic_auth(*self._proxy.login)
        return {"proxy": self._proxy.url, "proxy_headers": {"Authorization": authorization}}

    def _reason(self, error: Exception) -> str:
        """Return the end of the sentence "it can't be asked: …": the proxy's failure, or the registry's."""
        match error:
            case aiohttp.ClientHttpProxyError():
                return f"the outbound proxy answered {error.status} (BINDERY_OUTBOUND_PROXY_EXCEPT: hosts inside)"
            case aiohttp.ClientProxyConnectionError():
                return "the outbound proxy can't be reached"
        return failure_reason(error, self._timeout)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


def retry_after_seconds(reply: Reply) -> float | None:
    """Return a reply's `Retry-After`; None if it has none, or a date."""
    text = reply.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdecimal() else None


def _is_transient(error: Exception) -> bool:
    """Return whether a retry may help: after a broken or refused connection, not after a timeout or a TLS error."""
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | TimeoutError):
        return False
    return isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError)


def _tls_context(settings: RegistrySettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.registry_ca_file:
        try:
            context.load_verify_locations(Path(settings.registry_ca_file).expanduser())
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"BINDERY_REGISTRY_CA_FILE {settings.registry_ca_file} can't be used: {error}.") from error

    if not settings.registry_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
