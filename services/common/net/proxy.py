"""The outbound proxy that an operator configures: which hosts are reached through it, and how clients learn of it.

`HTTP_PROXY` and similar variables are ignored: a proxy takes over the check of addresses, so it must be chosen for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from services.common.net.hosts import is_literal, plain_host
from services.common.net.networks import Network, networks_of

PROXY = "BINDERY_OUTBOUND_PROXY"
EXCEPT = "BINDERY_OUTBOUND_PROXY_EXCEPT"
_PORT = 3128


@dataclass(frozen=True, kw_only=True)
class OutboundProxy:
    """An HTTP proxy: `CONNECT` for https, whole URLs for http (RFC 9110, sections 7.6 and 9.3.6).

    `url` contains no login. Hosts in `direct_names` and below them, and addresses in `direct_networks`, are reached
    without the proxy.
    """

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    direct_names: tuple[str, ...] = ()
    direct_networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, url: str, exceptions: str = "") -> Self | None:
        """Return the proxy at `http://user:password@host:port`, with a comma-separated list of exceptions.

        Return None for an empty URL. Raise `ValueError`, whose message contains no login.
        """
        if not url:
            return None

        try:
            parts = urlsplit(url)
            host = plain_host(parts.hostname or "")
            port = parts.port or _PORT
        except ValueError:
            host = None
            port = 0
        if host is None or parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"{PROXY} must be like http://user:password@proxy.example.org:3128.")

        names, networks = _exceptions(exceptions)
        return cls(
            url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            direct_names=names,
            direct_networks=networks,
        )

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """Return the proxy that `environment` describes; None if there is none."""
        return cls.of(environ.get(PROXY, ""), environ.get(EXCEPT, ""))

    @property
    def environment(self) -> dict[str, str]:
        """The proxy as environment variables, for a child process of ours."""
        exceptions = [*self.direct_names, *map(str, self.direct_networks)]
        return {PROXY: self.url_with_login, EXCEPT: ",".join(exceptions)}

    @property
    def url_with_login(self) -> str:
        """URL for programs that accept the login in no other way. Never put it into an argument, a log or a message."""
        if not self.user and not self.password:
            return self.url
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return self.url.replace("://", f"://{login}@", 1)

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password; None if the proxy has no login."""
        return (self.user, self.password) if self.user or self.password else None

    def serves(self, host: str) -> bool:
        """Return whether a plain host is reached through the proxy. This machine never is."""
        if host == "localhost" or host.endswith(".localhost"):
            return False
        if is_literal(host):
            address = ip_address(host)
            return not (address.is_loopback or any(address in network for network in self.direct_networks))
        return not any(host == name or host.endswith(f".{name}") for name in self.direct_names)


def environment_proxy(environ: Mapping[str, str]) -> str | None:
    """Return the name of a variable that sets a proxy for other programs, which we ignore; None if there is none."""
    names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if environ.get(name)), None)


def _exceptions(text: str) -> tuple[tuple[str, ...], tuple[Network, ...]]:
    """Return the names and networks of a list. Raise `ValueError` for a part that is neither."""
    names: list[str] = []
    networks: list[Network] = []
    for part in filter(None, re.split(r"[\s,]+", text)):
        try:
            networks += networks_of(part)
        except ValueError:
            name = plain_host(part.removeprefix("*").removeprefix("."))
            if name is None:
                raise ValueError(f"{EXCEPT} is a list of host names and networks, and {part!r} is neither.") from None
            names.append(name)
    return tuple(names), tuple(networks)
