"""The canonical form of a repository's URL, by which it is banned, counted and queued.

Image names keep the link's own spelling, as in BinderHub.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

import httpx

from services.common.models import ResolvedRepo
from services.common.net.hosts import plain_host

_SCP = re.compile(r"[^@/:]+@([^@/:]+):(.+)")
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_IN_PATHS = "!$&'()*+,;=:@~"
"""Characters that a path may contain unquoted, beside letters, digits and `-._` (RFC 3986, section 3.3)."""


def repository_of(repo: ResolvedRepo) -> str:
    """Return the canonical URL that a repository was reached at: its identity for quotas, seats, caps and the queue."""
    return canonical_url(repo.reached_url or repo.repo_url, ignores_case=repo.ignores_case)


def canonical_url(url: str, *, ignores_case: bool = False) -> str:
    """Return the canonical form of a git repository's URL; a text that is not such a URL is returned as it is.

    Protocol, user, default port, `www.` and `.git` do not distinguish repositories: URLs of http, ssh and git are
    written as https, without port 443. Hosts are in lower case, in ASCII and without a trailing dot; an IPv4 address
    in IPv6 (`::ffff:192.0.2.1`) becomes the IPv4 address. Paths are normalised by RFC 3986, section 6.2.2, without
    empty segments, and in lower case if the forge `ignores_case`. A canonical URL is unchanged.
    """
    scp = None if "://" in url else _SCP.fullmatch(url)
    try:
        parts = urlsplit(f"ssh://{scp[1]}/{scp[2]}" if scp else url)
        port = parts.port
    except ValueError:
        return url

    scheme = parts.scheme
    host = parts.hostname or ""
    if scheme not in {*_PORTS, "file"} or (not host and scheme != "file"):
        return url

    path = _path(parts.path, ignores_case=ignores_case)
    if scheme == "file":
        return f"file://{host}{path}"

    # The port of https too, as it is https that is written.
    netloc = _host(host) + (f":{port}" if port not in {None, _PORTS[scheme], _PORTS["https"]} else "")
    return urlunsplit(("https", netloc, path, parts.query, ""))


def plain_url(url: str) -> str:
    """Return a web URL in its plain spelling: normalised by RFC 3986, section 6.2, and no further."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in {None, _PORTS.get(parts.scheme)} else ""
    host = _host(parts.hostname or "", keeps_www=True)
    return urlunsplit((parts.scheme, f"{host}{port}", _path(parts.path, keeps_end=True), parts.query, ""))


def _host(text: str, *, keeps_www: bool = False) -> str:
    try:
        ascii_host = text if text.isascii() else httpx.URL(f"https://{text}/").raw_host.decode("ascii")
    except httpx.InvalidURL:
        return text
    host = plain_host(ascii_host) or ascii_host
    while not keeps_www and host.startswith("www.") and "." in (bare := host.removeprefix("www.")):
        host = bare
    if ":" not in host:
        return host
    ipv4 = None if keeps_www else _mapped(host)
    return str(ipv4) if ipv4 else f"[{host}]"


def _mapped(host: str) -> IPv4Address | None:
    try:
        return IPv6Address(host).ipv4_mapped
    except ValueError:
        return None


def _path(text: str, *, ignores_case: bool = False, keeps_end: bool = False) -> str:
    """Return a path in one spelling: octets unquoted if allowed, `.` and `..` resolved, and no empty segments.

    With `keeps_end`, a trailing `.git` or slash stays.
    """
    segments: list[bytes] = []
    for segment in map(unquote_to_bytes, text.split("/")):
        if segment == b"..":
            segments = segments[:-1]
        elif segment not in {b"", b"."}:
            segments.append(segment.lower() if ignores_case else segment)

    end = "/" if keeps_end and text.endswith("/") and segments else ""
    while not keeps_end and segments and segments[-1].endswith(b".git") and segments[-1] not in {b"..git", b"...git"}:
        segments[-1] = segments[-1].removesuffix(b".git")
        segments = segments if segments[-1] else segments[:-1]
    return "".join(f"/{quote(segment, safe=_IN_PATHS)}" for segment in segments) + end
