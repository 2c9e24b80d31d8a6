"""The checked client, which makes every HTTP request to an address that a user chose.

The host is looked up once, its address checked and connected to, so that a second DNS answer can't lead elsewhere. TLS
and the Host header still use the name. Redirects are followed one at a time, and each is checked.

An outbound proxy looks up names itself, and so has to refuse private addresses; addresses in the URL itself are refused
here. Only the CA bundle (`SSL_CERT_FILE`, `SSL_CERT_DIR`) is taken from the environment. Between requests the client
keeps idle connections, but no cookies. It may have a credential, which goes to no address outside of its scope.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx
from multidict import CIMultiDict

from services.common.models.errors import BinderyError
from services.common.net.checked_network import CheckedNetwork
from services.common.net.checked_url import checked_url
from services.common.net.credential import ScopedCredential
from services.common.net.hosts import is_literal
from services.common.net.networks import NetworkPolicy
from services.common.net.proxy import OutboundProxy
from services.common.net.reply import Download, Reply, ReplyTooLargeError
from services.common.net.tls import tls_context
from services.common.service.redaction import quotable

__all__ = ["CheckedClient", "CheckedUrl", "NetworkPolicy"]

DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
USER_AGENT = "Bindery"
_NEVER_FORWARDED = ("authorization", "proxy-authorization", "cookie")


@dataclass(frozen=True, kw_only=True)
class CheckedUrl:
    """The end of a URL's redirects: the URL that answered with `status`, and the address it was reached at.

    The address is empty for a request through a proxy, which alone knows it. `body` is empty unless it was requested
    and is short.
    """

    url: str
    host: str
    port: int
    address: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class CheckedClient:
    """Makes requests to addresses that strangers chose. Close it, or use it as an async context manager.

    `total_seconds` bounds one call with all its redirects and the reading of the reply; one connection may take a third
    of that, so that another address of the host can be tried. `silence_seconds` bounds the time to connect, and between
    two parts of a reply, for calls that may take long. `credential` goes along with the requests in its scope, of which
    a redirect may lead out.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        proxy: OutboundProxy | None = None,
        total_seconds: float = 30.0,
        silence_seconds: float | None = None,
        credential: ScopedCredential | None = None,
    ) -> None:
        self.policy = policy
        self.proxy = proxy
        self.credential = credential
        self._total_seconds = total_seconds
        self._timeouts = {"connect": silence_seconds or total_seconds / 3, "read": silence_seconds}
        self._pools: dict[tuple[str, bool], httpcore.AsyncConnectionPool] = {}

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int = 4 * 2**20) -> Reply:
        """Send a GET to `url`, following redirects, and return the reply, of any status.

        Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found` (no
        such host), and `provider_unavailable` for every failure of the peer, such as more than `max_bytes` of body.
        """
        async with self._answer(url, headers or {}) as (final, response):
            return await _read_reply(final, response, max_bytes)

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, max_bytes: int = 4 * 2**20
    ) -> Reply:
        """Send a POST with `body` to `url`, and again to where it redirects. Return and raise as `get` does."""
        async with self._answer(url, headers or {}, body=body) as (final, response):
            return await _read_reply(final, response, max_bytes)

    @asynccontextmanager
    async def download(
        self, url: str, *, own_headers: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Download]:
        """Send a GET to `url` and yield the reply, of any status, whose body is still to be read.

        `own_headers` are for the origin of `url`: a redirect that leads to another one is followed without them. Raise
        as `get` does, also while the body is read.
        """
        async with self._answer(url, {**(headers or {}), **own_headers}, confined=own_headers) as (final, response):
            yield Download(
                status=response.status, host=final.host, headers=_headers(response), chunks=response.aiter_stream()
            )

    async def follow(self, url: str, *, headers: Mapping[str, str] | None = None, body_bytes: int = 0) -> CheckedUrl:
        """Follow the redirects of `url` to their end, and read a body of at most `body_bytes` there.

        Raise as `get` does.
        """
        async with self._answer(url, headers or {}) as (final, response):
            body = await _body_up_to(response, body_bytes) if body_bytes else b""
            peer = response.extensions["network_stream"].get_extra_info("server_addr")

            return CheckedUrl(
                url=str(final),
                host=final.raw_host.decode("ascii"),
                port=final.port or DEFAULT_PORTS[final.scheme],
                address="" if self._is_proxied(final) else str(peer[0]),
                status=response.status,
                headers=_headers(response),
                body=body,
            )

    @asynccontextmanager
    async def _answer(
        self, text: str, headers: Mapping[str, str], *, body: bytes | None = None, confined: Iterable[str] = ()
    ) -> AsyncIterator[tuple[httpx.URL, httpcore.Response]]:
        """Yield the first response that is not a redirect, with its body still unread.

        With a `body`, the requests are POSTs. The headers that `confined` names are sent to the first origin only.
        """
        url = checked_url(text)
        request_headers = {name.lower(): value for name, value in headers.items()}
        never_forwarded = {*_NEVER_FORWARDED, *(name.lower() for name in confined)}

        try:
            async with asyncio.timeout(self._total_seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    async with self._request(url, request_headers, body) as response:
                        self._raise_if_proxy_refuses(url, response)
                        if (target := _redirect_target(url, response)) is None:
                            yield url, response
                            return

                    if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
                        request_headers = {
                            name: value for name, value in request_headers.items() if name not in never_forwarded
                        }
                    url = target
                raise BinderyError("provider_unavailable", f"{url.host} redirects more than {MAX_REDIRECTS} times.")
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise BinderyError("provider_unavailable", f"{url.host} does not answer in time.") from error
        except httpcore.ProxyError as error:
            raise _proxy_says(url.host, str(error).partition(" ")[0]) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            reason = "can't be trusted (TLS)" if "CERTIFICATE" in str(error) else "can't be reached"
            way = " through the outbound proxy" if self._is_proxied(url) else ""
            raise BinderyError("provider_unavailable", f"{url.host} {reason}{way}.") from error

    @asynccontextmanager
    async def _request(
        self, url: httpx.URL, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncIterator[httpcore.Response]:
        usual = {"accept": "*/*", "user-agent": USER_AGENT}
        if self.credential:
            usual |= self.credential.headers_for(str(url))
        fixed = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity"}
        pool = await self._pool_for(url)
        async with pool.stream(
            "GET" if body is None else "POST",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=list({**usual, **headers, **fixed}.items()),
            content=body,
            extensions={"timeout": self._timeouts},
        ) as response:
            yield response

    async def _pool_for(self, url: httpx.URL) -> httpcore.AsyncConnectionPool:
        """Return the connections for a URL's scheme and way; http alone does without the roots of TLS.

        Raise `BinderyError("address_not_allowed")`, as `goes_by_proxy` does.
        """
        key = url.scheme, self._is_proxied(url)
        if key not in self._pools:
            context = await asyncio.to_thread(tls_context) if url.scheme == "https" else None
            self._pools.setdefault(key, self._new_pool(context, by_proxy=key[1]))
        return self._pools[key]

    def _new_pool(self, context: ssl.SSLContext | None, *, by_proxy: bool) -> httpcore.AsyncConnectionPool:
        bounds: dict[str, Any] = {"max_connections": 100, "max_keepalive_connections": 10, "keepalive_expiry": 5.0}
        if self.proxy and by_proxy:
            login = _ascii(self.proxy.login)
            return httpcore.AsyncHTTPProxy(self.proxy.url, proxy_auth=login, ssl_context=context, **bounds)
        return httpcore.AsyncConnectionPool(context, network_backend=CheckedNetwork(self.policy), **bounds)

    def _is_proxied(self, url: httpx.URL) -> bool:
        """Return whether a URL is requested through the proxy. Raise as `goes_by_proxy` does."""
        return goes_by_proxy(url.raw_host.decode("ascii"), self.policy, self.proxy)

    def _raise_if_proxy_refuses(self, url: httpx.URL, response: httpcore.Response) -> None:
        """Raise `BinderyError` if the response to an http URL is the proxy's own: it demands a login."""
        if response.status == 407 and self._is_proxied(url):
            raise _proxy_says(url.host, "407")

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()


def goes_by_proxy(host: str, policy: NetworkPolicy, proxy: OutboundProxy | None) -> bool:
    """Return whether a plain host is reached through `proxy`; addresses in opened networks are reached directly.

    Raise `BinderyError("address_not_allowed")` for an address that may not be reached, with or without a proxy.
    """
    if proxy is None or not proxy.serves(host):
        return False
    if not is_literal(host):
        return True
    if host in policy.trusted:
        return True
    policy.check(host)
    return not policy.opens(host)


def _proxy_says(host: str, status: str) -> BinderyError:
    if status == "403":
        message = f"The outbound proxy of this Bindery does not let it reach {host} (it answered 403)."
        return BinderyError("address_not_allowed", message)
    if status == "407":
        return BinderyError("provider_unavailable", "The outbound proxy does not accept the login of this Bindery.")
    return BinderyError("provider_unavailable", f"{host} can't be reached: the outbound proxy answered {status}.")


def _ascii(login: tuple[str, str] | None) -> tuple[bytes, bytes] | None:
    return login and (login[0].encode(), login[1].encode())


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


async def _read_reply(final: httpx.URL, response: httpcore.Response, max_bytes: int) -> Reply:
    """Return the reply with its body. Raise `ReplyTooLargeError` for one of over `max_bytes`."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise ReplyTooLargeError(final.host, max_bytes)
    return Reply(status=response.status, headers=CIMultiDict(_headers(response)), body=bytes(body), url=str(final))


async def _body_up_to(response: httpcore.Response, max_bytes: int) -> bytes:
    """Return the body, or nothing if it is longer than `max_bytes`."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            return b""
    return bytes(body)


def _redirect_target(url: httpx.URL, response: httpcore.Response) -> httpx.URL | None:
    """Return the target of a redirect; None if the response is not one.

    Raise `BinderyError("address_not_allowed")` if the target is not a web address, or leads from https to http, which
    anyone on the way could answer.
    """
    location = _headers(response).get("location")
    if response.status not in REDIRECTS or not location:
        return None

    try:
        target = checked_url(str(url.join(location)))
    except (httpx.InvalidURL, BinderyError) as error:
        quoted = quotable(location.partition("?")[0])  # what follows may be a signature
        raise BinderyError(
            "address_not_allowed", f"{url.host} redirects to something that is not followed: {quoted!r}."
        ) from error

    if url.scheme == "https" and target.scheme != "https":
        raise BinderyError("address_not_allowed", f"{url.host} redirects from https to http, which is not followed.")
    return target
