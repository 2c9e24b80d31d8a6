"""A small Git LFS server: the batch API and the basic transfer, as git-lfs's docs/api describes them.

A `Forge` serves it beside each of its repositories (`<repository>.git/info/lfs`) if its `lfs` is set.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.support.forge_pages import Page, Request

MEDIA_TYPE = "application/vnd.git-lfs+json"
BATCH = "/info/lfs/objects/batch"
OBJECTS = "/lfs-objects/"
SECRET = "Basic bGZzOmEtdG9rZW4tb2YtdGhlLXNlcnZlcg=="


class LfsObjects:
    """The objects that the server has. It gives them only to who shows the header that its batch answer named.

    `status` and `message` refuse each batch. `sent` replaces what is sent for an oid, `failures` is how many of the
    next downloads get a 503, and `entry` changes an object's entry in the batch answer. With `at_once`, a download is
    answered when so many are under way.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.status = 200
        self.message = ""
        self.sent: dict[str, bytes] = {}
        self.failures = 0
        self.entry: dict[str, Any] = {}
        self.answer_changes: dict[str, Any] = {}
        self.href = ""
        self.at_once: threading.Barrier | None = None

    def add(self, content: bytes) -> str:
        """Keep `content` and return its pointer."""
        oid = hashlib.sha256(content).hexdigest()
        self.contents[oid] = content
        return pointer_to(oid, len(content))

    @staticmethod
    def serves(path: str) -> bool:
        return path.endswith(BATCH) or path.startswith(OBJECTS)

    def answer(self, url: str, request: Request, body: bytes) -> Page:
        """Answer a request to the server at `url`."""
        path = urlsplit(request.path).path
        if path.endswith(BATCH):
            return self._batch(self.href or f"{url}{OBJECTS}", request, body)
        return self._object(path.removeprefix(OBJECTS), request)

    def _batch(self, objects_at: str, request: Request, body: bytes) -> Page:
        kinds = {request.headers.get("accept"), request.headers.get("content-type")}
        if request.method != "POST" or kinds != {MEDIA_TYPE}:
            return _page(406, {"message": f"Accept and Content-Type have to be {MEDIA_TYPE}"})
        if self.status != 200:
            return _page(self.status, {"message": self.message})

        wanted = json.loads(body)
        if wanted["operation"] != "download" or "basic" not in wanted.get("transfers", ["basic"]):
            return _page(422, {"message": "This server only has downloads by the basic transfer"})
        entries = [self._entry(objects_at, item["oid"], item["size"]) for item in wanted["objects"]]
        return _page(200, {"transfer": "basic", "objects": entries} | self.answer_changes)

    def _entry(self, objects_at: str, oid: str, size: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if oid in self.contents:
            action = {"href": f"{objects_at}{oid}", "header": {"Authorization": SECRET, "X-Lfs-Key": SECRET}}
            entry["actions"] = {"download": action | {"expires_in": 600}}
        else:
            entry["error"] = {"code": 404, "message": "Object does not exist"}
        return entry | self.entry

    def _object(self, oid: str, request: Request) -> Page:
        if self.at_once:
            self.at_once.wait(timeout=20)
        if self.failures:
            self.failures -= 1
            return Page(503)
        if SECRET not in {request.headers.get("authorization"), request.headers.get("x-lfs-key")}:
            return Page(401)
        if oid not in self.contents:
            return Page(404)
        return Page(200, {"Content-Type": "application/octet-stream"}, self.sent.get(oid, self.contents[oid]))


def pointer_to(oid: str, size: int) -> str:
    """Return a pointer file's text."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


def _page(status: int, body: Mapping[str, Any]) -> Page:
    return Page(status, {"Content-Type": MEDIA_TYPE}, json.dumps(body).encode())
