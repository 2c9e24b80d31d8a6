"""One form of a repository's URL, by which it is banned, counted and queued, however a link spells it.

Images keep the link's own spelling in their names, as BinderHub names them.
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
"""What a path may hold as it is, beside letters, digits and `-._` (RFC 3986, section 3.3)."""


def repository_of(repo: ResolvedRepo) -> str:
    """What quotas, seats, caps and the queue take a repository for: the canonical URL of where it was found."""
    return canonical_url(repo.reached_url or repo.repo_url, ignores_case=repo.ignores_case)


def canonical_url(url: str, *, ignores_case: bool = False) -> str:
    """The one form of a git repository's URL; what is none comes back as it is.

    Protocols, users, default ports, `www.` and `.git` make no other repository: what is fetched by http, ssh or git is
    written as https, at port 443 without it. Hosts are in lower case, in ASCII and without a last dot; an IPv4 address
    in IPv6 (`::ffff:192.0.2.1`) is the IPv4 address. Paths are normal after RFC 3986, section 6.2.2, without empty
    segments, and in lower case where the forge `ignores_case`. A canonical URL stays as it is.
    """
    scp = None if "://" in url else _SCP.fullmatch(url)
    try:
        parts = urlsplit(f"ssh://{scp[1]}/{scp[2]}" if scp else url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return url
    if scheme not in {*_PORTS, "file"} or (not host and scheme != "file"):
        return url
    path = _path(parts.path, ignores_case=ignores_case)
    if scheme == "file":
        return f"file://{host}{path}"
    # The port of https too, as it is https that is written.
    netloc = _host(host) + (f":{port}" if port not in {None, _PORTS[scheme], _PORTS["https"]} else "")
    return urlunsplit(("https", netloc, path, parts.query, ""))


def plain_url(url: str) -> str:
    """A web URL as it is written plainly: as RFC 3986, section 6.2, takes spellings for equal, and nothing more."""
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
    mapped = None if keeps_www else _mapped(host)
    return str(mapped) if mapped else f"[{host}]"


def _mapped(host: str) -> IPv4Address | None:
    try:
        return IPv6Address(host).ipv4_mapped
    except ValueError:
        return None


def _path(text: str, *, ignores_case: bool = False, keeps_end: bool = False) -> str:
    """A path in one spelling: each octet as itself where it may be, `.` and `..` taken, and no empty segments.

    With `keeps_end`, `.git` and a slash at the end stay.
    """
    kept: list[bytes] = []
    for segment in map(unquote_to_bytes, text.split("/")):
        if segment == b"..":
            kept = kept[:-1]
        elif segment not in {b"", b"."}:
            kept.append(segment.lower() if ignores_case else segment)
    end = "/" if keeps_end and text.endswith("/") and kept else ""
    while not keeps_end and kept and kept[-1].endswith(b".git") and kept[-1] not in {b"..git", b"...git"}:
        kept[-1] = kept[-1].removesuffix(b".git")
        kept = kept if kept[-1] else kept[:-1]
    return "".join(f"/{quote(segment, safe=_IN_PATHS)}" for segment in kept) + end
