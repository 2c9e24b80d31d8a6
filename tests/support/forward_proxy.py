"""A small HTTP proxy on loopback: forwards http URLs and tunnels https, wherever its own list of names says."""

import base64
import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_HOPS = {"proxy-authorization", "proxy-connection", "connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class ForwardProxy:
    """Knows where `names` are, by `host` or `host:port`, and refuses everything else with `status`.

    With a `login`, who shows another one, or none, gets 407. `requests` holds the methods and targets of what was let
    through, `refusals` those of what was not.
    """

    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    _: KW_ONLY
    login: tuple[str, str] | None = None
    status: int = 403
    requests: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """With the login, as an operator writes it."""
        return f"http://{':'.join(self.login)}@127.0.0.1:{self.port}" if self.login else f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def refusal(self, headers: Message) -> int | None:
        """Return the status for a client without the login."""
        if self.login is None:
            return None
        credentials = base64.b64encode(":".join(self.login).encode()).decode()
        return None if headers.get("Proxy-Authorization") == f"Basic {credentials}" else 407


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: ForwardProxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _target(self, host: str, port: int) -> tuple[str, int] | None:
        """Return where to connect to; None if the client was sent away."""
        proxy = self.server.proxy
        address = proxy.names.get(f"{host}:{port}") or proxy.names.get(host)
        status = proxy.refusal(self.headers) or (None if address else proxy.status)
        (proxy.refusals if status else proxy.requests).append(f"{self.command} {self.path}")
        if status is None:
            return address
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return None

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if (target := self._target(host, int(port))) is None:
            return
        with socket.create_connection(target) as far:
            self.send_response(200)
            self.end_headers()
            threads = [
                threading.Thread(target=_pass_on, args=ends, daemon=True)
                for ends in ((self.connection, far), (far, self.connection))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.close_connection = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if (target := self._target(parts.hostname or "", parts.port or 80)) is None:
            return
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOPS}
        body = b"".join(self._body())
        upstream = http.client.HTTPConnection(*target, timeout=30)
        with contextlib.closing(upstream):
            upstream.request(self.command, path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_POST = do_HEAD = do_GET  # noqa: N815 - http.server calls them so

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
