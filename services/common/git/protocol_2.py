"""Git's protocol 2 over http, as far as refs need it: what a server can do, and those of its refs that one asks for.

Source: gitprotocol-v2(5), "Capability Advertisement" and "ls-refs".
"""

import os
from dataclasses import dataclass

from services.common.git.advertisement import matches
from services.common.git.packets import DELIMITER, FLUSH, packet, packets
from services.common.git.urls import INFO_REFS, PROTOCOL_2, Remote, git_headers, is_full_sha
from services.common.models.errors import BinderyError
from services.common.net.outbound import CheckedClient

_CAPABILITIES_BYTES = 64 * 1024
_VERSION = b"version 2"
_SHA256 = b"object-format=sha256"
_UPLOAD_PACK = "/git-upload-pack"
_TYPES = {
    "Content-Type": "application/x-git-upload-pack-request",
    "Accept": "application/x-git-upload-pack-result",
}
_PEELED = "^{}"
_PLACES = ("", "refs/", "refs/heads/", "refs/tags/")


@dataclass(frozen=True)
class Capabilities:
    """What a server says of itself when it is asked by protocol 2. One of an older protocol says nothing."""

    lines: tuple[bytes, ...] = ()

    @property
    def has_protocol_2(self) -> bool:
        """Whether it speaks protocol 2: then any commit may be asked for by its name, and refs by theirs."""
        return _VERSION in self.lines


async def capabilities(remote: Remote, client: CheckedClient) -> Capabilities:
    """Ask an http or https server. Raise `BinderyError` as `CheckedClient.follow` does."""
    headers = await git_headers() | PROTOCOL_2
    response = await client.follow(remote.url + INFO_REFS, headers=headers, body_bytes=_CAPABILITIES_BYTES)
    try:
        return Capabilities(tuple(line.rstrip(b"\n") for line in packets(response.body)))
    except ValueError:
        return Capabilities()


async def ls_refs(
    remote: Remote, client: CheckedClient, server: Capabilities, *patterns: str, max_bytes: int
) -> dict[str, str]:
    """Return the refs that match, by name, as `git ls-remote` lists them: a tag's commit is at `<name>^{}`.

    The server is asked for those that begin as a branch, a tag or a whole name of a pattern would; without patterns,
    for all. Bytes of a name that are not UTF-8 are surrogates (PEP 383).

    Raise `BinderyError`: `provider_unavailable`, also if they are more than `max_bytes`, and as `CheckedClient.post`.
    """
    names = dict.fromkeys(pattern.removesuffix(_PEELED) for pattern in patterns)
    asked = [packet(b"ref-prefix %s\n" % os.fsencode(place + name)) for name in names for place in _PLACES]
    head = [packet(b"command=ls-refs\n"), *([packet(_SHA256 + b"\n")] if _SHA256 in server.lines else [])]
    body = b"".join([*head, DELIMITER, packet(b"peel\n"), *asked, FLUSH])

    headers = await git_headers() | PROTOCOL_2 | _TYPES
    reply = await client.post(remote.url + _UPLOAD_PACK, body, headers=headers, max_bytes=max_bytes)
    try:
        rows = list(packets(reply.body)) if reply.status == 200 else [b"ERR"]
        refs = {name: sha for row in rows if row for name, sha in _refs_of(row)}
    except ValueError as error:
        raise BinderyError("provider_unavailable", f"{remote.url} lists refs in a way that is not git's.") from error
    return {name: sha for name, sha in refs.items() if not patterns or matches(name, patterns)}


def _refs_of(row: bytes) -> list[tuple[str, str]]:
    """Return a ref, and what it is when its tags are peeled off. Raise `ValueError`."""
    sha, name, *attributes = os.fsdecode(row.rstrip(b"\n")).split(" ")
    if not is_full_sha(sha):
        raise ValueError(sha)
    peeled = [text.removeprefix("peeled:") for text in attributes if text.startswith("peeled:")]
    return [(name, sha), *((name + _PEELED, of) for of in peeled if is_full_sha(of))]
