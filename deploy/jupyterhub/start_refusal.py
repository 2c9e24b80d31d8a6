"""A hub that can't start: its container's health says why for a while, in place of a restart each second."""

import json
import os
import signal
import socket
import socketserver
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import NoReturn

SHOWN_SECONDS = "BINDERY_START_PROBLEM_SHOWN_SECONDS"
_ASKED_AGAIN_SECONDS = 0.5
_READ_SECONDS = 2.0


class _Server(socketserver.TCPServer):
    """Listens at an address of either kind, and asks no DNS for its name, as `http.server.HTTPServer` does."""

    allow_reuse_address = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)


def refuse(problem: str, environ: Mapping[str, str] = os.environ) -> NoReturn:
    """Raise `SystemExit` with the sentence; first show it for as many seconds as `SHOWN_SECONDS` says (0)."""
    try:
        seconds = float(environ.get(SHOWN_SECONDS) or 0)
        port = int(environ.get("BINDERY_HUB_PORT") or 8081)
    except ValueError:
        sys.exit(problem)
    if seconds > 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the first process of a container ignores it otherwise
        sys.stderr.write(f"{problem}\n")
        host = environ.get("BINDERY_HUB_LISTEN_HOST") or "127.0.0.1"
        _show(problem, host.strip("[]"), port, seconds)
    sys.exit(problem)


def _show(problem: str, host: str, port: int, seconds: float) -> None:
    """Answer every request with 503, and with the problem to those from the hub's own host."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _READ_SECONDS  # one request after another is answered, so none may hold up the probes

        def do_GET(self) -> None:
            is_own_host = self.client_address[0] == self.connection.getsockname()[0]
            body = json.dumps({"message": problem if is_own_host else "The hub can't start."}).encode()
            self.send_response(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Write nothing for a request."""

    ends_at = time.monotonic() + seconds
    try:
        server = _Server(host, port, Handler)
    except OSError:
        return  # the sentence counts, not that nobody could be told
    with server:
        server.timeout = _ASKED_AGAIN_SECONDS
        while time.monotonic() < ends_at:
            server.handle_request()
