"""Hosts of URLs: what is taken for one, written in one way.

Whoever resolves a name may read it in its own way: curl decodes `%61`, and takes a leading `-` in a pinned name for a
command. So only what everybody reads alike is a host, and the address that was checked is the one that is reached.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME_LENGTH = 253


def plain_host(text: str) -> str | None:
    """The host that `text` (ASCII, an IPv6 literal without its brackets) names, in lower case and without a last dot.

    None where that is no IPv4 or IPv6 literal, and no name of labels of letters, digits, `-` and `_` that begin and end
    with none of the dashes (RFC 1123, and `_`, which some hosts have). A zone (`fe80::1%eth0`) names an interface of
    whoever asks, and a name whose last label begins with a digit is read as a number by some: neither is a host.
    """
    host = text.lower().removesuffix(".")
    try:
        return str(IPv6Address(host) if ":" in host else IPv4Address(host)) if "%" not in host else None
    except AddressValueError:
        labels = host.split(".")
    is_name = len(host) <= _NAME_LENGTH and all(_LABEL.fullmatch(label) for label in labels)
    return host if is_name and not labels[-1][0].isdigit() else None


def is_literal(host: str) -> bool:
    """Whether a plain host is an address rather than a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()
