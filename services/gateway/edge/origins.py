"""The hosts under which the gateway answers, and the web sites that may request a launch."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Scope

from services.common.models.errors import BinderyError
from services.gateway.settings import GatewaySettings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_BROWSERS = ("mozilla/", "opera/")
"""Beginnings of every browser's `User-Agent`, in lower case."""


class Origins:
    """The hosts and origins of one gateway, from its settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        sites = _comma_separated(settings.allowed_origins)
        self.local = settings.local_mode
        self.any_allowed = "*" in sites
        self.allowed = frozenset(filter(None, map(_origin, sites)))
        self.public = _origin(settings.public_url)
        self._public_url = settings.public_url

        name = urlsplit(settings.public_url).hostname or ""
        is_loopback = name == "localhost" or name.startswith("127.")
        self._page_name = name if self.local and is_loopback else ""
        self._ports = {str(settings.listen_port)} - {"0"}
        self._hosts_by_port: dict[int, frozenset[str]] = {}
        self._proxies = [ip_network(part) for part in _comma_separated(settings.trusted_proxies)]

    def knows_host(self, scope: Scope, host: str) -> bool:
        """Return whether a request may call us `host`. In local mode only our own names count (DNS rebinding)."""
        if not self.local:
            return True
        return host.lower() in self._loopback_hosts(scope) or host.lower() == self.public.partition("://")[2]

    def _loopback_hosts(self, scope: Scope) -> frozenset[str]:
        """Return our own names on this machine, with each port that we listen on."""
        own_port = (scope.get("server") or ("", 0))[1] or 0
        hosts = self._hosts_by_port.get(own_port)
        if hosts is None:
            ports = self._ports | ({str(own_port)} if own_port else set())
            with_port = {f"{name}:{port}" for name in LOOPBACK_NAMES for port in ports}
            without_port = set(LOOPBACK_NAMES) if "80" in ports else set()
            hosts = frozenset(with_port | without_port)
            self._hosts_by_port[own_port] = hosts
        return hosts

    def page_origin(self, host: str) -> str:
        """Return the origin of our pages, if `host` is another name of this machine; else an empty string.

        Users' servers are opened under those other names, and cookies ignore ports: ours are set under one name only.
        """
        name, port = _name_and_port(host)
        is_other_name = name != self._page_name and name in LOOPBACK_NAMES
        return f"http://{self._page_name}{port}" if self._page_name and is_other_name else ""

    def is_own(self, connection: HTTPConnection, origin: str) -> bool:
        """Return whether `origin` is ours: the public address or, in local mode, that of another gateway here."""
        if origin == self.public:
            return True

        scheme, _, host = origin.partition("://")
        if self.local:
            is_here = scheme == "http" and host in self._loopback_hosts(connection.scope)
            return is_here and not self.page_origin(host)
        return not self.public and host == connection.headers.get("host", "").lower()

    def allows(self, origin: str) -> bool:
        """Return whether the settings let `origin` use us from another site."""
        return self.any_allowed or origin.lower() in self.allowed

    def refuse_cross_site(self, connection: HTTPConnection) -> None:
        """Refuse a launch unless our own pages, an allowed origin or a program that is not a browser requested it.

        A user's server is on another port of our host, so `same-site` is as foreign as `cross-site`.

        Raise `BinderyError("cross_site")`.
        """
        origin = connection.headers.get("origin", "")
        site = connection.headers.get("sec-fetch-site", "")
        if origin and self.allows(origin):
            return

        is_foreign_site = site not in {"", "same-origin", "none"}
        # With `Sec-Fetch-Site` the browser has compared the origins itself, and writes `null` for some of ours.
        is_foreign_origin = bool(origin) and not site and not self.is_own(connection, origin.lower())
        if (is_foreign_site and not self.any_allowed) or is_foreign_origin:
            raise BinderyError(
                "cross_site",
                f"The web site {origin or 'that you came from'} asked for this launch, and it is not among those that "
                "may. Open the link yourself, or add the site to BINDERY_ALLOWED_ORIGINS.",
            )

    def refuse_unnamed_page(self, connection: HTTPConnection) -> None:
        """Refuse a GET that starts something, unless it is known not to come from another site's page.

        A request without `Origin` and `Sec-Fetch-Site` comes from a program, or from a browser that sends neither with
        a GET: an old one (Safari before 16.4), or any browser that talks plain http to another machine. No page can
        make its browser name another program as `User-Agent` without an `Origin` (a request with headers of its own is
        a CORS request), nor a page of ours as `Referer`.

        Raise `BinderyError("cross_site")`.
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
        """Return our address as users reach it; it ends with a slash."""
        return (self._public_url or str(connection.base_url)).rstrip("/") + "/"

    def client_ip(self, connection: HTTPConnection) -> str:
        """Return the client's address: that of the peer, or the one that trusted proxies wrote into `X-Forwarded-For`.

        The header is read from its end, and only as far as proxies that we trust wrote it.
        """
        address = _address(connection.client.host if connection.client else "")
        hops = [hop.strip() for value in connection.headers.getlist("x-forwarded-for") for hop in value.split(",")]
        while address and hops and any(address in proxy for proxy in self._proxies):
            previous = _address(hops.pop())
            if previous is None:
                break
            address = previous
        return str(address) if address else ""


def _comma_separated(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _origin(url: str) -> str:
    """Return scheme, host and port of `url` as a browser writes an origin, or an empty string if it has none."""
    parts = urlsplit(url.strip())
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        return ""
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(":" + _DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}"


def _name_and_port(host: str) -> tuple[str, str]:
    """Split a `Host` header into name and port; the port begins with its colon, or is empty."""
    name, colon, port = host.lower().rpartition(":")
    if name and not host.endswith("]"):
        return name, colon + port
    return host.lower(), ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address in IPv6Network("::ffff:0:0/96"):
        return address.ipv4_mapped
    return address
