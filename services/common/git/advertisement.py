"""The refs in a git server's first response (`info/refs`), which save a second request to a small repository.

Source: gitprotocol-http(5) and gitprotocol-pack(5), "Reference Discovery". A flush packet follows the service's name;
then there is one ref in each packet, and the first one also has the capabilities, after a NUL.
"""

import os

from services.common.git.packets import packets
from services.common.git.urls import is_full_sha

_SERVICE = b"# service=git-upload-pack"
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
        service, first_flush, *rows, last_flush = packets(body)
    except ValueError:
        return None
    if service.rstrip(b"\n") != _SERVICE or first_flush or last_flush:
        return None

    refs: dict[str, str] = {}
    for packet in rows:
        sha, _, name = packet.partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "surrogateescape").partition(" ")
        if not is_full_sha(sha) or not name:
            return None
        refs[name] = sha
    refs.pop("capabilities^{}", None)  # stands for the capabilities of a repository without refs
    return {name: sha for name, sha in refs.items() if not patterns or matches(name, patterns)}


def head_advertised(body: bytes) -> str:
    """Return the full name of the branch that HEAD names, as `git ls-remote --symref` tells it; empty if it is unknown.

    `body` is one that `refs_advertised` can read.
    """
    capabilities = body.partition(b"\0")[2].partition(b"\n")[0].split(b" ")
    names = (word.removeprefix(_SYMREF) for word in capabilities if word.startswith(_SYMREF))
    return os.fsdecode(next(names, b""))


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether one of the patterns is the end of a ref's name, as `git ls-remote` reads them."""
    return any(f"/{name}".endswith(f"/{pattern}") for pattern in patterns)
