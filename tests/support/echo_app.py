"""An application that echoes requests, and how tests read its refusals."""

import json
import threading

from starlette.types import Receive, Scope, Send

from services.common.web.app import send_bytes
from tests.support.metrics import sample

GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
MIB = 2**20


class Echo:
    """Answers with the path and the body of a request.

    `/unread` is answered without its body being read, `/large` with 64 MiB, and `/endless` never to its end.
    """

    def __init__(self) -> None:
        self.client_left = threading.Event()
        self.paths: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        self.paths.append(path)
        body = b""
        while path not in {"/unread", "/large"}:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.client_left.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.headers = scope["headers"]
        if path == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.client_left.set()
            return
        body = b"x" * 64 * MIB if path == "/large" else path.encode() + b" " + body
        await send_bytes(send, body, "text/plain", 401 if path == "/unread" else 200)


def refusal_count(why: str) -> float:
    """Count the requests and connections that were refused for a reason."""
    return sample("bindery_http_refused_total", why=why)


def problem_of(body: bytes) -> tuple[str, str]:
    """Return code and detail of a problem."""
    problem = json.loads(body)
    return problem["code"], problem["detail"]
