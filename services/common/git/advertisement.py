"""The refs in a git server's first response (`info/refs`), which save a second request to a small repository.

Source: gitprotocol-http(5) and gitprotocol-pack(5), "Reference Discovery": each packet begins with its length in four
hex digits. A flush packet follows the service's name; then there is one ref in each packet, and the first one also has
the capabilities, after a NUL.
"""

import os
import re
from collections.abc import Iterator

from services.common.git.urls import is_full_sha

_SERVICE = b"# service=git-upload-pack"
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_GLOBS = frozenset("*?[\\")
_SYMREF = b"symref=HEAD:"


def refs_advertised(body: bytes, patterns: tuple[str, ...] = ()) -> dict[str, str] | None:
    """Return names and shas of the refs that match, as `git ls-remote` lists them; without patterns, all of them.

    Bytes of a name that are not UTF-8 are surrogates (PEP 383), as in arguments of a program.
    Return None if `body` does not tell: it is cut off or of another kind or protocol, or a pattern is a glob.
    """
    if any(_GLOBS & set(pattern) for pattern in patterns):
        return None
    try:
        packets = list(_packets(body))
    except ValueError:
        return None
    if len(packets) < 3 or packets[0].rstrip(b"\n") != _SERVICE or packets[1] or packets[-1]:
        return None

    refs: dict[str, str] = {}
    for packet in packets[2:-1]:
        sha, _, name = packet.partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "surrogateescape").partition(" ")
        if not is_full_sha(sha) or not name:
            return None
        refs[name] = sha
    refs.pop("capabilities^{}", None)  # stands for the capabilities of a repository without refs
    return {name: sha for name, sha in refs.items() if not patterns or _matches(name, patterns)}


def head_advertised(body: bytes) -> str:
    """Return the full name of the branch that HEAD names, as `git ls-remote --symref` tells it; empty if it is unknown.

    `body` is one that `refs_advertised` can read.
    """
    capabilities = body.partition(b"\0")[2].partition(b"\n")[0].split(b" ")
    names = (word.removeprefix(_SYMREF) for word in capabilities if word.startswith(_SYMREF))
    return os.fsdecode(next(names, b""))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(f"/{name}".endswith(f"/{pattern}") for pattern in patterns)


def _packets(body: bytes) -> Iterator[bytes]:
    """Yield the packets in order, a flush as an empty one. Raise `ValueError` for a malformed or cut-off packet."""
    at = 0
    while at < len(body):
        if not _LENGTH.fullmatch(digits := body[at : at + 4]):
            raise ValueError(digits)

        length = int(digits, 16)
        if length == 0:
            yield b""
            at += 4
        elif length < 4 or at + length > len(body):
            raise ValueError(length)
        else:
            yield body[at + 4 : at + length]
            at += length
