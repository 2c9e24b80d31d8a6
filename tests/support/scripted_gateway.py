"""A gateway over HTTP that answers a client what a test says."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY = {
    "phase": "ready",
    "message": "server running\n",
    "url": "http://127.0.0.1:9/user/x/",
    "token": "t/1",
    "open_url": "http://127.0.0.1:9/user/x/lab/tree/a.ipynb?token=t%2F1",
}


class Gateway(ThreadingHTTPServer):
    """Answers a launch, and its events over several connections: each inner list is what one of them gives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.posts: list[tuple[dict[str, Any], str | None]] = []
        self.resumed_from: list[str | None] = []
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.deletions: list[tuple[str, str | None]] = []
        self.streams: list[str] = []
        self.replies: dict[str, Any] = {}
        """What it answers to POST and GET, by path, in place of a launch."""
        self.refusal: tuple[int, dict[str, object]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.authorizations.append(self.headers["Authorization"])
        self.server.posts.append((body, self.headers["Idempotency-Key"]))
        if self.server.refusal:
            self.answer(self.server.refusal[0], self.server.refusal[1], "application/problem+json")
        elif self.path in self.server.replies:
            self.answer(201, self.server.replies[self.path], "application/json")
        else:
            self.answer(202, {"v": 1, "launch_id": "l1", "state": "resolving"}, "application/json")

    def do_DELETE(self) -> None:
        self.server.deletions.append((self.path, self.headers["Bindery-Operator-Token"]))
        if self.server.refusal:
            self.answer(*self.server.refusal, "application/problem+json")
        else:
            self.answer(202, {}, "application/json")

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.authorizations.append(self.headers["Authorization"])
        self.server.resumed_from.append(self.headers["Last-Event-ID"])
        if self.path in self.server.replies:
            self.answer(200, self.server.replies[self.path], "application/json")
            return
        if not self.server.streams:
            self.answer(503, {}, "application/json")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.server.streams.pop(0).encode())

    def answer(self, status: int, body: Any, kind: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def event(position: int, content: Mapping[str, object]) -> str:
    return f"id: l1~{position}~0\ndata: {json.dumps(content)}\n\n"


def line(position: int) -> str:
    return event(position, {"phase": "building", "message": f"line {position}\n"})


def running_at(folder: Path, *addresses: str) -> None:
    """Write what `make up` keeps of itself in its data folder."""
    run = folder / "run"
    run.mkdir()
    (run / "up.json").write_text(json.dumps({"v": 1, "gateways": addresses}))
    (run / "start-token").write_text("of-the-data-folder")
