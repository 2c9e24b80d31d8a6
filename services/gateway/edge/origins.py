"""Which web sites and addresses we answer to: hosts, origins, and who may ask for a launch."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Scope

from services.common.models.errors import BinderyError
from services.gateway.settings import GatewaySettings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_BROWSERS = ("mozilla/", "opera/")
"""How every browser's `User-Agent` begins, in lower case."""


def _origin(url: str) -> str:
    """Scheme, host and port of `url` as a browser writes an origin; empty where it has none."""
    parts = urlsplit(url.strip())
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        return ""
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(":" + _DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}"


def _name_and_port(host: str) -> tuple[str, str]:
    """The parts of a `Host` header; the port begins with its colon, or is empty."""
    name, colon, port = host.lower().rpartition(":")
    return (name, colon + port) if name and not host.endswith("]") else (host.lower(), "")


class Origins:
    """The hosts and origins of one gateway, from its settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        given = [part.strip() for part in settings.allowed_origins.split(",") if part.strip()]
        self.local = settings.local_mode
        self.any_allowed = "*" in given
        self.allowed = frozenset(filter(None, map(_origin, given)))
        self.public = _origin(settings.public_url)
        self._public_url = settings.public_url
        name = urlsplit(settings.public_url).hostname or ""
        self._name = name if self.local and (name == "localhost" or name.startswith("127.")) else ""
        self._ports = {str(settings.listen_port)} - {"0"}
        self._hosts: dict[int, frozenset[str]] = {}
        self._proxies = [ip_network(part.strip()) for part in settings.trusted_proxies.split(",") if part.strip()]

    def _loopback_hosts(self, scope: Scope) -> frozenset[str]:
        """Our own names on this machine, with each port that we listen on."""
        listens = (scope.get("server") or ("", 0))[1] or 0
        if (hosts := self._hosts.get(listens)) is None:
            ports = self._ports | ({str(listens)} if listens else set())
            named = {f"{name}:{port}" for name in LOOPBACK_NAMES for port in ports}
            hosts = self._hosts[listens] = frozenset(named | (set(LOOPBACK_NAMES) if "80" in ports else set()))
        return hosts

    def knows_host(self, scope: Scope, host: str) -> bool:
        """Whether a request may name us `host`. On one's own machine only our own names count (DNS rebinding)."""
        if not self.local:
            return True
        return host.lower() in self._loopback_hosts(scope) or host.lower() == self.public.partition("://")[2]

    def page_origin(self, host: str) -> str:
        """Where our pages are, if `host` is another name of this machine; else empty.

        Servers of users are opened under those other names, and cookies know no ports: ours are set under one name.
        """
        name, port = _name_and_port(host)
        return f"http://{self._name}{port}" if self._name and name != self._name and name in LOOPBACK_NAMES else ""

    def is_own(self, connection: HTTPConnection, origin: str) -> bool:
        """Whether `origin` is ours: the public address, or, on one's own machine, that of another gateway there."""
        if origin == self.public:
            return True
        scheme, _, host = origin.partition("://")
        if self.local:
            is_here = scheme == "http" and host in self._loopback_hosts(connection.scope)
            return is_here and not self.page_origin(host)
        return not self.public and host == connection.headers.get("host", "").lower()

    def allows(self, origin: str) -> bool:
        """Whether the setting allows `origin` to use us from another site."""
        return self.any_allowed or origin.lower() in self.allowed

    def refuse_cross_site(self, connection: HTTPConnection) -> None:
        """Let a launch through that our own pages, an allowed origin or no browser asked for.

        A server of a user lives on another port of our host, so `same-site` is as foreign as `cross-site`.

        Raises `BinderyError("cross_site")` for any other.
        """
        origin = connection.headers.get("origin", "")
        site = connection.headers.get("sec-fetch-site", "")
        if origin and self.allows(origin):
            return
        foreign_site = site not in {"", "same-origin", "none"}
        # With `Sec-Fetch-Site` the browser has compared the origins itself, and writes `null` for some of ours.
        foreign_origin = bool(origin) and not site and not self.is_own(connection, origin.lower())
        if (foreign_site and not self.any_allowed) or foreign_origin:
            raise BinderyError(
                "cross_site",
                f"The web site {origin or 'that you came from'} asked for this launch, and it is not among those that "
                "may. Open the link yourself, or add the site to BINDERY_ALLOWED_ORIGINS.",
            )

    def refuse_unnamed_page(self, connection: HTTPConnection) -> None:
        """Let a GET through that begins something only if it is known not to come from another site's page.

        A request without `Origin` and `Sec-Fetch-Site` is a program's, or a browser's that says nothing for a GET: an
        old one (Safari before 16.4), and any towards plain http off loopback. No page can make its browser name another
        program as `User-Agent` without an `Origin` (a request with headers of its own is a CORS request), nor a page of
        ours as `Referer`.

        Raises `BinderyError("cross_site")`.
        """
        headers = connection.headers
        if self.any_allowed or "origin" in headers or "sec-fetch-site" in headers:
            return
        try:
            page = _origin(headers.get("referer", ""))
        except ValueError:
            page = ""
        if page and (self.is_own(connection, page) or self.allows(page)):
            return
        if headers.get("user-agent", "").lower().startswith(_BROWSERS):
            raise BinderyError(
                "cross_site",
                "Your browser does not say which web site asked for this launch: it is old, or this Bindery has no "
                "https. Open the link itself. A program must not call itself a browser in its User-Agent.",
            )

    def base_url(self, connection: HTTPConnection) -> str:
        """Our address as users reach it; it ends with a slash."""
        return (self._public_url or str(connection.base_url)).rstrip("/") + "/"

    def client_ip(self, connection: HTTPConnection) -> str:
        """The client's address: that of the peer, or what trusted proxies wrote into `X-Forwarded-For`.

        The header is read from its end, and only as far as the proxies that we trust wrote it.
        """
        address = _address(connection.client.host if connection.client else "")
        hops = [hop.strip() for value in connection.headers.getlist("x-forwarded-for") for hop in value.split(",")]
        while address and hops and any(address in proxy for proxy in self._proxies):
            before = _address(hops.pop())
            if before is None:
                break
            address = before
        return str(address) if address else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address in IPv6Network("::ffff:0:0/96"):
        return address.ipv4_mapped
    return address


SCOPE_KEY = "bindery.origins"
"""Where the edge leaves the gateway's `Origins` in each request's scope."""


def origins(connection: HTTPConnection) -> Origins:
    """The origins of the gateway that serves `connection`; the edge has put them there."""
    found = connection.scope[SCOPE_KEY]
    assert isinstance(found, Origins)  # noqa: S101
    return found


def refuse_cross_site(connection: HTTPConnection) -> None:
    """Raise `BinderyError("cross_site")` where another web site asks for a launch."""
    origins(connection).refuse_cross_site(connection)


def refuse_unnamed_page(connection: HTTPConnection) -> None:
    """Raise `BinderyError("cross_site")` where a browser asks, and nobody knows for which site's page."""
    origins(connection).refuse_unnamed_page(connection)


def base_url(connection: HTTPConnection) -> str:
    """The address that links, badges and `binder_launch_host` begin with; it ends with a slash."""
    return origins(connection).base_url(connection)


def client_ip(connection: HTTPConnection) -> str:
    """The address of the client, past the proxies that we trust; empty where there is none."""
    return origins(connection).client_ip(connection)
