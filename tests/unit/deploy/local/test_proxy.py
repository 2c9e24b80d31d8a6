"""The proxy as `up` starts it: the real traefik, which finds its routes again when it is restarted."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from deploy.local.proxy import proxy_command, rules_file
from tests.support.polling import eventually
from tests.support.ports import free_ports

RULES = """
[http.routers.hub]
rule = "PathPrefix(`/`)"
service = "hub"
entryPoints = ["http"]
[[http.services.hub.loadBalancer.servers]]
url = "http://127.0.0.1:{port}"
"""


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def proxy(command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(url: str) -> str | None:
    try:
        reply = httpx.get(url, trust_env=False)
        return reply.text if reply.is_success else None
    except httpx.HTTPError:
        return None


@pytest.mark.slow
def test_a_restarted_proxy_has_its_routes_and_a_new_run_has_none_of_the_old(tmp_path: Path, hub_port: int) -> None:
    port, api_port = free_ports(2, avoid=set())
    folder = tmp_path / 'a "quoted" földer'
    folder.mkdir()
    command = proxy_command(folder, port, api_port)
    page = f"http://127.0.0.1:{port}/hub/%2Fpage"
    ping = f"http://127.0.0.1:{api_port}/ping"
    with proxy(command) as process:
        eventually(lambda: answer(ping) == "OK", "the proxy is well")
        draft = rules_file(folder).with_name("draft")
        draft.write_text(RULES.format(port=hub_port))
        draft.replace(rules_file(folder))
        eventually(lambda: answer(page) == "/hub/%2Fpage", "the route leads to the hub, its path untouched")
        process.kill()
    with proxy(command):
        eventually(lambda: answer(page) == "/hub/%2Fpage", "the route is there again")

    proxy_command(folder, port, api_port)
    assert rules_file(folder).read_text() == ""
