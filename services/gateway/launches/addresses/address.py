"""An address taken apart, however it is written."""

import functools
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from services.common.models.errors import BinderyError
from services.common.net.checked_url import NO_USER
from services.common.service.redaction import quotable

ADDRESS_MAX_LENGTH = 4096
_PROTOCOL = re.compile(r"(?i)(?:git\+)?(?P<name>https?|ssh|git)(?P<colon>:|%3A)(?:/|%2F)+")
_SCP = re.compile(r"(?P<user>[\w.+-]+@)?(?P<host>[\w.-]+):(?!/*[0-9]+/)/*(?P<path>.+)")
_HOST = re.compile(
    r"(?i)(?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*[a-z0-9]\.?(?::[0-9]{1,5})?"  # a name with dots
    r"|[a-z0-9_.-]+:[0-9]{1,5}"  # any name with a port
    r"|(?:[0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9a-f:.]+\](?::[0-9]{1,5})?"
)
_PORT = re.compile(r"[0-9]{1,5}")
_DEFAULT_PORTS = {"http": 80, "https": 443, "git": 9418}


@dataclass(frozen=True, kw_only=True)
class Address:
    """A web address, or that of a git repository, in parts. `path` is as it is encoded, without its outer slashes.

    - `place` is the host in lower case, without `www.` and a default port: what a row of the table is found by.
    - `was_ssh`: it was written for ssh, and is read as https.
    """

    scheme: str
    netloc: str
    place: str
    path: str
    query: str = ""
    was_ssh: bool = False

    @classmethod
    def of(cls, text: str, *, hosts: frozenset[str] = frozenset(), any_host: bool = False) -> Self | None:
        """Return the address that `text` is; None if it is another text, such as `owner/name`.

        Without a protocol it is an address if it begins with one of `hosts` or, with `any_host`, with any host's name.
        Raise `BinderyError("bad_spec")` for an address that can't be read, and for one with a login in it.
        """
        was_ssh = False
        if match := _PROTOCOL.match(text):
            scheme = match["name"].lower()
            rest = text[match.end() :]
            if match["colon"] != ":":
                rest = unquote(rest)
            was_ssh = scheme == "ssh"
        elif (scp := _SCP.fullmatch(text)) and (scp["user"] or _place(scp["host"], "ssh") in hosts):
            scheme, rest, was_ssh = "ssh", f"{scp['host']}/{scp['path']}", True
        else:
            scheme, rest = "https", text.removeprefix("//")
            first = re.split(r"[/?#]", rest, maxsplit=1)[0]
            is_host = _place(first, "https") in hosts or (any_host and "/" in rest and _HOST.fullmatch(first))
            if not is_host:
                return None
        return cls._of_parts(scheme, rest, text, was_ssh=was_ssh)

    @classmethod
    def _of_parts(cls, scheme: str, rest: str, text: str, *, was_ssh: bool) -> Self:
        try:
            parts = urlsplit(f"{scheme}://{rest.replace(' ', '%20')}")
            port = parts.port
        except ValueError as error:
            raise BinderyError("bad_spec", f"{quotable(text)!r} is not an address.") from error
        if not parts.hostname or any(char < " " or char == "\x7f" for char in rest):
            raise BinderyError("bad_spec", f"{quotable(text)!r} is not an address.")

        if len(parts.path) > ADDRESS_MAX_LENGTH:
            raise BinderyError("bad_spec", f"{quotable(text)!r} is too long for an address.")

        user, at, netloc = parts.netloc.lower().rpartition("@")
        if at and (not was_ssh or ":" in user):
            raise BinderyError("bad_spec", NO_USER)
        if was_ssh:  # its port is ssh's
            netloc = netloc.removesuffix(f":{port}")
        netloc = netloc.removesuffix(":")
        return cls(
            scheme="https" if was_ssh else scheme,
            netloc=netloc,
            place=_place(netloc, scheme),
            path=parts.path.strip("/"),
            query=parts.query,
            was_ssh=was_ssh,
        )

    @property
    def url(self) -> str:
        """The address without query and fragment, which are no part of a repository, ref or path."""
        return f"{self.scheme}://{self.netloc}/{self.path}"

    @property
    def root(self) -> str:
        """The address of the host."""
        return f"{self.scheme}://{self.netloc}"


@functools.cache
def place_of(url: str) -> tuple[str, str]:
    """Return the host of a site's URL, as `Address.place` has it, and the path that its pages' addresses begin with."""
    parts = urlsplit(url)
    return _place(parts.netloc, parts.scheme), parts.path.strip("/")


def _place(netloc: str, scheme: str) -> str:
    host, colon, port = netloc.lower().rpartition(":")
    if not colon or not _PORT.fullmatch(port):
        host, port = netloc.lower(), ""
    host = host.removesuffix(".").removeprefix("www.")
    return f"{host}:{port}" if port and int(port) != _DEFAULT_PORTS.get(scheme) else host
