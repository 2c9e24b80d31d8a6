"""A stub of JupyterHub: the REST calls that `services/launcher/hub/client.py` makes.

A server is ready as soon as it is asked, or after some seconds.

It takes the long way of a real hub: 202 to the request for a server, then the progress stream that says `ready`, or
that ends without a result while the server starts. `GET /hub/api/own-seconds` tells how long it has itself worked on
each user since it was asked last: from when it got each call until it had answered; `/hub/api/starts` how often a
server was started for each user that there ever was; `/hub/api/all-users` all users on one page.

    python -m tests.load.stub_hub PORT [--ready-after SECONDS]
"""

import argparse
import json
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import uvloop

from tests.load.stub_http import Answer, serve

_JSON = "application/json"


class StubHub:
    """Users and their servers, in memory."""

    page_max = 200

    def __init__(self, *, ready_after_seconds: float = 0.0) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, int] = {}
        self._ready_after_seconds = ready_after_seconds
        self._ready_at: dict[str, float] = {}
        self._own: dict[str, float] = {}

    def on_answer(self, target: str, seconds: float) -> None:
        """Take note of how long a call of a user's took."""
        parts = urlsplit(target).path.split("/")
        if len(parts) > 4:
            user = unquote(parts[4])
            self._own[user] = self._own.get(user, 0.0) + seconds

    def handle(self, method: str, target: str, head: bytes, body: bytes) -> Answer:
        """Answer one call of the hub's API."""
        self._finish_starts()
        parts = urlsplit(target)
        path = [unquote(part) for part in parts.path.split("/")[3:]]  # "", "hub", "api"
        if path[:1] == ["users"] and len(path) == 1 and method == "GET":
            return self._listing(parts.query)
        if path[:1] == ["users"]:
            return self._user(method, path[1], path[2:], body)
        if path == ["own-seconds"]:
            own = self._own
            self._own = {}
            return 200, _JSON, json.dumps(own).encode(), {}
        if path == ["starts"]:
            return 200, _JSON, json.dumps(self.starts).encode(), {}
        if path == ["all-users"]:
            return 200, _JSON, json.dumps(self.users).encode(), {}
        return 200, _JSON, b'{"version":"stub"}', {}

    def _finish_starts(self) -> None:
        for name in [name for name, at in self._ready_at.items() if at <= time.monotonic()]:
            del self._ready_at[name]
            for server in self.users.get(name, {"servers": {}})["servers"].values():
                server |= {"ready": True, "pending": None}

    def _listing(self, query: str) -> Answer:
        parameters = parse_qs(query)
        offset = int(parameters.get("offset", ["0"])[0])
        limit = min(int(parameters.get("limit", ["200"])[0]), self.page_max)
        following = {"offset": offset + limit, "limit": limit} if offset + limit < len(self.users) else None
        page = {"items": list(self.users.values())[offset : offset + limit], "_pagination": {"next": following}}
        return 200, _JSON, json.dumps(page).encode(), {}

    def _user(self, method: str, name: str, rest: list[str], body: bytes) -> Answer:
        user = self.users.get(name)
        if not rest:
            if method == "POST":
                self.users[name] = user or {"name": name, "servers": {}}
                return (409 if user else 201), _JSON, b"{}", {}
            if method == "DELETE":
                return (204 if self.users.pop(name, None) else 404), _JSON, b"{}", {}
            return (200, _JSON, json.dumps(user).encode(), {}) if user else (404, _JSON, b"{}", {})
        if user is None:
            return 404, _JSON, b"{}", {}
        if rest[-1] == "progress":
            ready = {
                "progress": 100,
                "ready": True,
                "is_sure": True,  # as a hub with our mixin says
                "message": f"Server ready at /user/{name}/",
                "url": f"/user/{name}/",
            }
            events: list[dict[str, Any]] = [{"progress": 0, "message": "Server requested"}]
            if name not in self._ready_at:
                events.append(ready)
            return 200, "text/event-stream", b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events), {}
        server = rest[1] if len(rest) > 1 else ""
        if method == "POST":
            if server in user["servers"]:
                return 400, _JSON, b'{"status":400,"message":"it is running or starting already"}', {}
            user["servers"][server] = {"ready": True, "pending": None, "user_options": json.loads(body or b"{}")}
            self.starts[name] = self.starts.get(name, 0) + 1
            if self._ready_after_seconds:
                user["servers"][server] |= {"ready": False, "pending": "spawn"}
                self._ready_at[name] = time.monotonic() + self._ready_after_seconds
            return 202, _JSON, b"", {}
        return (204 if user["servers"].pop(server, None) else 404), _JSON, b"{}", {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--ready-after", type=float, default=0.0)
    arguments = parser.parse_args()
    hub = StubHub(ready_after_seconds=arguments.ready_after)
    uvloop.run(serve(hub.handle, arguments.port, hub.on_answer))
