"""What the head of a request must not say: the parser lets it pass, and it has no one meaning."""

from collections.abc import Iterable


def fault_of(headers: Iterable[tuple[bytes, bytes]], http_version: str, *, upgrades: bool) -> str:
    """What is wrong with a head, for whoever sent it; empty where nothing is.

    `upgrades`: another protocol is asked for.
    RFC 9112, 3.2: a server answers 400 to HTTP/1.1 without a `Host`, and to several.
    """
    hosts, has_body = 0, False
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            has_body = True
    if hosts > 1 or (not hosts and http_version == "1.1"):
        return "It has several Host headers: send one." if hosts else "It has no Host header: send one."
    if upgrades and has_body:  # of which the parser takes the body for the other protocol's first bytes
        return "It has a body and asks for another protocol: send it without `Upgrade`, as HTTP/1.1."
    return ""
