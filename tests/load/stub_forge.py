"""A stub of a git server and of GitHub's API: refs of repositories that need not exist, told at once.

Whatever the name, HEAD and `main` are the commit `sha_of(name)`. Git gets its first protocol's advertisement, which
is all that `git ls-remote` needs; the API answers with an ETag, and 304 where it is sent back.

    python -m tests.load.stub_forge PORT
"""

import hashlib
import json
import sys
from urllib.parse import urlsplit

import uvloop

from tests.load.stub_http import Answer, serve


def sha_of(name: str) -> str:
    """Return the commit that a repository of this name is at; `name` is its path without slashes at the ends."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def _packet(line: str) -> bytes:
    return f"{len(line) + 4:04x}{line}".encode()


def handle(_method: str, target: str, head: bytes, _body: bytes) -> Answer:
    """Answer one request of git, or for a commit."""
    path = urlsplit(target).path.strip("/")
    if path.startswith("api/repos/"):
        name = "/".join(path.split("/")[2:4])
        etag = f'W/"{sha_of(name)}"'
        if etag.encode() in head:
            return 304, "", b"", {"ETag": etag}
        body = json.dumps({"sha": sha_of(name), "commit": {"tree": {"sha": sha_of("tree")}}})
        return 200, "application/json; charset=utf-8", body.encode(), {"ETag": etag}
    if path.endswith("/info/refs"):
        sha = sha_of(path.removesuffix("/info/refs").removesuffix(".git"))
        refs = _packet(f"{sha} HEAD\0symref=HEAD:refs/heads/main agent=stub\n") + _packet(f"{sha} refs/heads/main\n")
        body = _packet("# service=git-upload-pack\n").decode() + "0000"
        return 200, "application/x-git-upload-pack-advertisement", body.encode() + refs + b"0000", {}
    return 404, "text/plain", b"", {}


if __name__ == "__main__":
    uvloop.run(serve(handle, int(sys.argv[1])))
