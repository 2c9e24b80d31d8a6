"""Addresses that may be reached on behalf of a user: public ones, and those of networks that an operator opens."""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from services.common.models.errors import BinderyError

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's special-purpose registries (RFC 6890 and its updates), and the clouds' metadata services outside of those.
_NOT_PUBLIC: list[tuple[str, str]] = [
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "a provider's private network"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "reserved"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("64:ff9b:1::/48", "a local translator's (NAT64)"),
    ("ff00::/8", "multicast"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "reserved"),
    ("3fff::/20", "reserved"),
]
_REFUSED = [(ip_network(network), kind) for network, kind in _NOT_PUBLIC]
_GLOBAL_V6 = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def _unwrapped(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 one leads to (mapped, 6to4, NAT64), or the address itself.

    Only the local network knows what `64:ff9b:1::/48` leads to, as its prefixes have any length (RFC 8215).
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _SIX_TO_FOUR:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def non_public_reason(address: IpAddress) -> str | None:
    """Return why `address` is not public (`"loopback"`, `"private"`, ...), or None if it is."""
    reached = _unwrapped(address)
    for network, kind in _REFUSED:
        if reached in network:
            return kind
    if isinstance(reached, IPv6Address) and reached not in _GLOBAL_V6:
        return "reserved"
    return None


def is_our_own(address: IpAddress) -> bool:
    """Return whether `address` belongs to this machine, by its interfaces at this moment.

    The system's routing decides it, without sending anything: a connection to an own address comes from that address.
    """
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect((str(address), 9))
            return ip_address(str(probe.getsockname()[0]).partition("%")[0]) == address
    except OSError:  # there is no route
        return False


@dataclass(frozen=True)
class NetworkPolicy:
    """Allows addresses in `allowed` and public ones, other than this machine's; never one in `refused`.

    Hosts in `trusted`, which an operator has named, may be anywhere.
    """

    allowed: tuple[Network, ...] = ()
    refused: tuple[Network, ...] = ()
    trusted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, allowed: str, refused: str = "") -> Self:
        """Return the policy of two comma-separated lists of CIDRs. Raise `ValueError`.

        The lists are the settings `BINDERY_ALLOWED_NETWORKS` and `BINDERY_REFUSED_NETWORKS`.
        """
        return cls(networks_of(allowed), networks_of(refused))

    def trusting(self, *hosts: str) -> Self:
        """Return this policy with more trusted hosts, in lower case."""
        return replace(self, trusted=self.trusted | set(hosts))

    def allows(self, address: IpAddress) -> bool:
        """Return whether `address` may be reached."""
        return self._objection(address) is None

    def opens(self, address: IpAddress | str) -> bool:
        """Return whether `address` is in a network that an operator opened."""
        parsed = ip_address(address) if isinstance(address, str) else address
        return _is_in(self.allowed, parsed, _unwrapped(parsed)) and self.allows(parsed)

    def _objection(self, address: IpAddress) -> str | None:
        """Return why the address may not be reached and what can be done about it; None if it may."""
        reached = _unwrapped(address)
        if _is_in(self.refused, address, reached):
            return "is in a network that BINDERY_REFUSED_NETWORKS names. Only the operator can change that."
        if _is_in(self.allowed, address, reached):
            return None

        if kind := non_public_reason(address):
            wrong = f"is not public but {kind}"
        elif is_our_own(reached):
            wrong = "is that of the machine that Bindery runs on"
        else:
            return None

        return f"{wrong}. The operator of this Bindery can open a network with BINDERY_ALLOWED_NETWORKS."

    def check(self, address: IpAddress | str, host: str = "") -> None:
        """Raise `BinderyError("address_not_allowed")`, which names `host`, unless `address` may be reached."""
        parsed = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
        if objection := self._objection(parsed):
            raise BinderyError(
                "address_not_allowed", f"{host or parsed} may not be reached from here: its address {objection}"
            )

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host` that may be reached, in the system's order of preference; never empty.

        The caller sets the deadline. Raise `BinderyError`: `address_not_allowed` if every address is refused,
        `ref_not_found` if there is no such host, `provider_unavailable` if names can't be looked up at all.
        """
        candidates = await look_up(host, port)
        if host in self.trusted:
            return candidates
        usable = [address for address in candidates if self.allows(ip_address(address.partition("%")[0]))]
        if not usable:
            self.check(candidates[0], host)
        return usable


def networks_of(cidrs: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list. Raise `ValueError`."""
    return tuple(ip_network(part.strip()) for part in cidrs.split(",") if part.strip())


def _is_in(networks: Iterable[Network], *addresses: IpAddress) -> bool:
    return any(address in network for network in networks for address in addresses)


async def look_up(host: str, port: int) -> list[str]:
    """Return every address of `host` by the system's resolver, without duplicates; never empty.

    Raise `BinderyError`: `ref_not_found`, `provider_unavailable`.
    """
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        code = getattr(error, "errno", socket.EAI_NONAME)
        if code in {socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY}:
            raise BinderyError("provider_unavailable", f"The name {host} can't be looked up just now.") from error
        raise BinderyError("ref_not_found", f"There is no host named {host}.") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    if not addresses:
        raise BinderyError("ref_not_found", f"There is no host named {host}.")
    return addresses
