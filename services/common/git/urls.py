"""URLs of git repositories as people write them: which are accepted, and what they lead to."""

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit, urlunsplit

from services.common.git.versions import user_agent
from services.common.models.errors import BinderyError
from services.common.net.checked_url import MAX_URL_LENGTH, NO_HOST, NO_USER, checked_url
from services.common.net.hosts import is_literal, plain_host
from services.common.net.outbound import CheckedClient, CheckedUrl
from services.common.service.redaction import quotable

WEB = frozenset({"http", "https"})
INFO_REFS = "/info/refs?service=git-upload-pack"
_SCP = re.compile(r"([\w-]+)@([\w.-]+):(.+)")
_SCP_WITHOUT_USER = re.compile(r"()([\w-]+\.[\w.-]+):(?!//)(.+)")
_NOT_WEB = frozenset({"ssh", "git+ssh", "ssh+git", "git"})
_WEB_USER = re.compile(r"(?i)^(https?://)[^/?#:@]+@")
_AMBIGUOUS = re.compile(r"(?i)%(?:2f|5c|[01][0-9a-f]|7f)|(?:^|/)(?:\.|%2e){2}(?:/|$)")
_FULL_SHA = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_PORTS = {"git": 9418, "ssh": 22}
PROTOCOL_2 = {"Git-Protocol": "version=2"}
_WITHOUT_PROTOCOL_0 = frozenset({400, 403, 405, 406, 415, 426, 501, 505})
"""Statuses with which a server may answer that it speaks protocol 2 only."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A remote for git: a URL, and the configuration that pins it to the checked address, or to the proxy.

    `advertisement` is the server's answer by git's protocol 0, which lists its refs; empty unless it was requested and
    is short.
    """

    url: str
    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    advertisement: bytes = b""

    @property
    def is_web(self) -> bool:
        """Whether it is reached by http or https."""
        return self.url.startswith(("http://", "https://"))


def is_full_sha(ref: str) -> bool:
    """Return whether `ref` is the full name of a commit: 40 hex digits (SHA-1), or 64 (SHA-256)."""
    return _FULL_SHA.fullmatch(ref) is not None


def git_url(text: str, allowed_protocols: frozenset[str] = WEB) -> str:
    """Return the URL that `text` means; `user@host:path` means `ssh://user@host/path`.

    Raise `BinderyError("bad_spec")` for a protocol that is not allowed, a password, an option, and a text that is not
    a URL; for a user name in http and https, as it may be a token; and for a path that programs read differently: with
    `..`, or with a percent-encoded slash, backslash or control character.
    """
    _check_text(text)
    if scp := _SCP.fullmatch(text):
        text = f"ssh://{scp[1]}@{scp[2]}/{scp[3]}"
    parts = _parts_of(text)

    quoted = quotable(text)
    _check_protocol(parts, quoted, allowed_protocols)
    _check_place(parts, quoted)
    if parts.scheme in WEB:
        checked_url(text)
    elif parts.hostname and plain_host(parts.hostname) is None:
        raise BinderyError("bad_spec", f"{quoted!r} {NO_HOST}")
    return text


def _check_text(text: str) -> None:
    """Raise `BinderyError("bad_spec")` for an option of git, and for characters that are in no URL."""
    if text.startswith("-"):
        raise BinderyError("bad_spec", f"A git URL can't begin with a dash: {quotable(text)!r}.")
    if len(text) > MAX_URL_LENGTH or not text.isprintable() or " " in text or "\\" in text:
        raise BinderyError("bad_spec", f"{quotable(text)!r} is not a git URL.")


def _parts_of(url: str) -> SplitResult:
    """Return the parts of a URL. Raise `BinderyError("bad_spec")` if it has none, or a port that is not a number."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises `ValueError` if it is not a number
    except ValueError as error:
        raise BinderyError("bad_spec", f"{quotable(url)!r} is not a git URL.") from error
    return parts


def _check_protocol(parts: SplitResult, quoted: str, allowed_protocols: frozenset[str]) -> None:
    """Raise `BinderyError("bad_spec")` for a login that the URL gives away, and for a protocol that is not allowed."""
    if parts.password or ("@" in parts.netloc and parts.scheme in WEB):
        raise BinderyError("bad_spec", NO_USER)
    if parts.scheme not in allowed_protocols:
        allowed = ", ".join(sorted(allowed_protocols))
        raise BinderyError("bad_spec", f"Unsupported git url {quoted}, protocol {parts.scheme} not in {allowed}.")


def _check_place(parts: SplitResult, quoted: str) -> None:
    """Raise `BinderyError("bad_spec")` for a host or path that is missing, ambiguous, or an option of a program."""
    host = parts.hostname or ""
    if parts.query or parts.fragment or (not host and parts.scheme != "file"):
        raise BinderyError("bad_spec", f"{quoted} is not the URL of a git repository.")
    if _AMBIGUOUS.search(parts.path):
        raise BinderyError("bad_spec", f"{quoted!r} can be read in several ways: write its path without .. and %2F.")
    if host.startswith("-") or parts.path.startswith(("/-", "-")) or (parts.username or "").startswith("-"):
        raise BinderyError("bad_spec", f"A host or path of a git URL can't begin with a dash: {quoted!r}.")


def submodule_url(parent: str, url: str) -> str:
    """Return the URL of a submodule; leading `./` and `../` are relative to the parent repository's URL.

    A user name in an http or https URL is dropped: forges insert the name of the user who copied the URL, and we fetch
    anonymously. Raise `BinderyError("bad_spec")` for a URL that leads out of the parent's host.
    """
    if not url.startswith(("./", "../")):
        return _WEB_USER.sub(r"\1", url)

    parts = urlsplit(parent)
    path = [part for part in parts.path.split("/") if part]
    steps = url.rstrip("/").split("/")
    while steps and steps[0] in {".", ".."}:
        if steps.pop(0) == "..":
            if not path:
                raise BinderyError("bad_spec", f"{url!r} leads out of {parts.hostname}.")
            path.pop()

    if ".." in steps:
        raise BinderyError("bad_spec", f"{url!r} is not the URL of a git repository.")
    return urlunsplit((parts.scheme, parts.netloc, "/" + "/".join([*path, *steps]), "", ""))


def web_url(url: str) -> str | None:
    """Return the https URL of a repository that `url` names by ssh (`git@host:path` too) or git; None for any other.

    Forges serve a repository at the same path by each protocol. User and port belong to the protocol, and are dropped.
    """
    if scp := _SCP.fullmatch(url) or _SCP_WITHOUT_USER.fullmatch(url):
        return f"https://{scp[2]}/{scp[3].lstrip('/')}"

    try:
        parts = urlsplit(url)
        _ = parts.port  # raises `ValueError` if it is not a number
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme not in _NOT_WEB or not host:
        return None
    literal = f"[{host}]" if ":" in host else host
    return f"https://{literal}/{parts.path.lstrip('/')}"


async def locate(
    url: str, client: CheckedClient, allowed_protocols: frozenset[str] = WEB, *, body_bytes: int = 0
) -> Remote:
    """Follow and check all redirects of `url`, and return their end, pinned to its address or to the proxy.

    `git://` and `ssh://` never go through the proxy. With `body_bytes`, the server is asked for an advertisement, which
    is kept if it has at most so many.

    Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found` (nothing public there),
    `rate_limited`, `provider_unavailable`.
    """
    url = git_url(url, allowed_protocols)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Remote(url=url)
    if parts.scheme not in WEB:
        return await _locate_elsewhere(url, client)

    address = url.rstrip("/") + INFO_REFS
    headers = await git_headers()
    response = None
    if body_bytes:  # by protocol 0, which has the refs in this response: protocol 2 needs another request for them
        response = await client.follow(address, headers=headers, body_bytes=body_bytes)
    if response is None or response.status in _WITHOUT_PROTOCOL_0:
        response = await client.follow(address, headers=headers | PROTOCOL_2)
    _raise_for_status(response, url, knows_us=client.credential is not None and client.credential.covers(url))

    config = _pinned(response.host, response.port, response.address)
    if client.proxy and not response.address:
        config = (("http.proxy", client.proxy.url_with_login), ("http.proxyAuthMethod", "basic"))
    if client.credential:
        config += client.credential.git_config
    return Remote(url=response.url.removesuffix(INFO_REFS), config=config, advertisement=response.body)


async def git_headers() -> dict[str, str]:
    """Return the headers that git sends with its first request."""
    return {"User-Agent": await asyncio.to_thread(user_agent), "Pragma": "no-cache"}


def _raise_for_status(response: CheckedUrl, url: str, *, knows_us: bool) -> None:
    """Raise `BinderyError` unless a git server answered that it has a repository at `url`.

    `knows_us` if it was asked with a credential.
    """
    if response.status in {401, 403, 404, 410} or not response.url.endswith(INFO_REFS):
        status_note = f" ({response.host} answered {response.status})" if response.status >= 400 else ""
        what = (
            f"git repository that the credential may read at {url}" if knows_us else f"public git repository at {url}"
        )
        raise BinderyError("ref_not_found", f"There is no {what}{status_note}.")

    if response.status == 429:
        after = response.headers.get("retry-after", "")
        raise BinderyError(
            "rate_limited",
            f"{response.host} asks for fewer requests.",
            retry_after_seconds=float(after[:9]) if after.isascii() and after.isdigit() else None,
        )

    if response.status != 200:
        raise BinderyError("provider_unavailable", f"{response.host} answered {response.status} for {url}.")


def _pinned(host: str, port: int, address: str) -> tuple[tuple[str, str], ...]:
    if is_literal(host):
        return ()
    literal = f"[{address}]" if ":" in address else address
    return (("http.curloptResolve", f"{host}:{port}:{literal}"),)


async def _locate_elsewhere(url: str, client: CheckedClient) -> Remote:
    """Locate a `git://` or `ssh://` URL, if a setting allows them, at its checked address; ssh also gets the name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 0)
    address = (await client.policy.addresses(host, port))[0]
    if parts.scheme == "ssh":
        command = f"ssh -F /dev/null -o BatchMode=yes -o ProxyCommand=none -o HostName={address} -o HostKeyAlias={host}"
        return Remote(url=url, config=(("core.sshCommand", command),))
    literal = f"[{address}]" if ":" in address else address
    return Remote(url=urlunsplit((parts.scheme, f"{literal}:{port}", parts.path, "", "")))
