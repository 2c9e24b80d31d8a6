"""Hosts of URLs, in one spelling that all programs read alike.

Programs differ in how they read a host: curl decodes `%61`, and takes a leading `-` in a pinned name for an option.
Only an unambiguous host is accepted, so that the address that was checked is the one that is connected to.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME_LENGTH = 253


def plain_host(text: str) -> str | None:
    """Return the host that `text` names, in lower case and without a trailing dot; None if it is not a plain host.

    `text` is ASCII, an IPv6 literal without its brackets. A plain host is an IPv4 or IPv6 literal, or a name whose
    labels consist of letters, digits, `-` and `_` and neither begin nor end with `-` (RFC 1123, plus `_`, which some
    hosts use). A zone (`fe80::1%eth0`) names an interface of the local machine, and some programs read a name whose
    last label begins with a digit as a number, so neither is accepted.
    """
    host = text.lower().removesuffix(".")
    if "%" in host:
        return None

    try:
        return str(IPv6Address(host) if ":" in host else IPv4Address(host))
    except AddressValueError:
        labels = host.split(".")

    is_name = len(host) <= _NAME_LENGTH and all(_LABEL.fullmatch(label) for label in labels)
    return host if is_name and not labels[-1][0].isdigit() else None


def is_literal(host: str) -> bool:
    """Return whether a plain host is an address and not a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()
