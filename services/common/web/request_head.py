"""Checks of a request's head for what the parser accepts although its meaning is ambiguous."""

from collections.abc import Iterable


def fault_of(headers: Iterable[tuple[bytes, bytes]], http_version: str, *, upgrades: bool) -> str:
    """Return what is wrong with a head, as a sentence for the client; empty if nothing is.

    `upgrades` says that the request asks for another protocol. Source: RFC 9112, 3.2, by which a server answers 400 to
    HTTP/1.1 without a `Host` header or with several.
    """
    hosts = 0
    has_body = False
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            has_body = True

    if hosts > 1 or (not hosts and http_version == "1.1"):
        return "It has several Host headers: send one." if hosts else "It has no Host header: send one."

    if upgrades and has_body:  # the parser would take the body for the other protocol's first bytes
        return "It has a body and asks for another protocol: send it without `Upgrade`, as HTTP/1.1."
    return ""
