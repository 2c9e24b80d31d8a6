"""What a git server says of its refs when it is first asked (`info/refs`), so that a small one need not be asked twice.

Source: gitprotocol-http(5) and gitprotocol-pack(5), "Reference Discovery": packets of four hex digits of length and the
rest, a flush packet after the service's name, one ref a packet, capabilities behind a NUL in the first.
"""

import re
from collections.abc import Iterator

from services.common.git.urls import is_full_sha

_SERVICE = b"# service=git-upload-pack"
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_GLOBS = frozenset("*?[\\")


def refs_advertised(body: bytes, patterns: tuple[str, ...] = ()) -> dict[str, str] | None:
    """Names and shas of the refs that match, as `git ls-remote` would list them; all without patterns.

    None where that can't be told from `body`: it is cut off, of another kind or protocol, or a pattern is a glob.
    """
    if any(_GLOBS & set(pattern) for pattern in patterns):
        return None
    try:
        packets = list(_packets(body))
    except ValueError:
        return None
    if len(packets) < 3 or packets[0].rstrip(b"\n") != _SERVICE or packets[1] or packets[-1]:
        return None
    found: dict[str, str] = {}
    for packet in packets[2:-1]:
        sha, _, name = packet.partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        if not is_full_sha(sha) or not name:
            return None
        found[name] = sha
    found.pop("capabilities^{}", None)  # how a repository without refs tells what its server can do
    return {name: sha for name, sha in found.items() if not patterns or _matches(name, patterns)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(f"/{name}".endswith(f"/{pattern}") for pattern in patterns)


def _packets(body: bytes) -> Iterator[bytes]:
    """The packets in order, a flush being an empty one. Raises `ValueError` where there are none, or one is cut off."""
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
