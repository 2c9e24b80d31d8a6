"""A check, before the first test, that a cluster elsewhere can do what the tests need."""

import contextlib
import http.server
import json
import secrets
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.cluster import Cluster
from tests.support.engine import REGISTRY
from tests.support.polling import eventually

PORT = 8000
IN_THE_POD = f"""
import http.server, sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=30)
http.server.ThreadingHTTPServer(("", {PORT}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""What the pod does: ask this machine, then answer it."""


def probe(cluster: Cluster, image: str, *, pull_seconds: float = 300, reach_seconds: float = 30) -> None:
    """Run a pod that calls this machine and is called by it. Fails with what does not work and which setting it is."""
    name = f"bindery-probe-{secrets.token_hex(3)}"
    with _answering(cluster.host) as (address, was_asked):
        run = ["run", name, f"--image={image}", "--restart=Never", "--command", "--"]
        cluster.kubectl(*run, "python3", "-c", IN_THE_POD, address)
        try:
            _wait_for_start(cluster, name, image, pull_seconds)
            assert was_asked.wait(reach_seconds), (
                f"pods do not reach this machine: BINDERY_TEST_HOST={cluster.host} must be an address of it that they"
                " reach, and no firewall may be between"
            )
            pod = _pod(cluster, name)["status"]["podIP"]
            eventually(
                lambda: _answers(f"http://{pod}:{PORT}/"),
                f"this machine reaches pods by their own addresses ({pod}): it needs a route to them",
                reach_seconds,
            )
        finally:
            cluster.kubectl("delete", "pod", name, "--wait=false", "--grace-period=1", is_checked=False)


def _pod(cluster: Cluster, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(cluster.kubectl("get", "pod", name, "--output", "json"))
    return pod


def _wait_for_start(cluster: Cluster, name: str, image: str, seconds: float) -> None:
    def phase() -> str:
        return str(_pod(cluster, name)["status"].get("phase"))

    try:
        eventually(lambda: phase() in {"Running", "Failed"}, "it runs", seconds)
    except AssertionError:
        statuses = _pod(cluster, name)["status"].get("containerStatuses", [])
        states = [status["state"] for status in statuses]
        raise AssertionError(
            f"within {seconds:g} s no pod of {image} runs: the cluster must be able to pull from"
            f" BINDERY_TEST_REGISTRY={REGISTRY}, and have room. {states}"
        ) from None

    if phase() == "Failed":
        last_line = cluster.kubectl("logs", name, is_checked=False).strip().rpartition("\n")[2]
        raise AssertionError(f"pods do not reach this machine at BINDERY_TEST_HOST={cluster.host}: {last_line}")


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
        return bool(reply.status == 200)
    return False


@contextlib.contextmanager
def _answering(host: str) -> Iterator[tuple[str, threading.Event]]:
    """Serve at an address of this machine; the event tells that a request came."""
    was_asked = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            was_asked.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}/", was_asked
        finally:
            server.shutdown()
            thread.join(10)
