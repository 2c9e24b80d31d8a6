"""Whether a cluster elsewhere can do what the tests need, said in one line before the first of them fails."""

import contextlib
import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Iterator

from tests.support.cluster import Cluster
from tests.support.engine import REGISTRY
from tests.support.stack import eventually

PORT = 8000
IN_THE_POD = f"""
import http.server, sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=30)
http.server.ThreadingHTTPServer(("", {PORT}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""What the pod does: ask this machine, then answer it."""


def probe(cluster: Cluster, image: str, *, pull_seconds: float = 300, reach_seconds: float = 30) -> None:
    """Run a pod that asks this machine and is asked by it. Fails with what does not work and which setting it is."""
    name = f"bindery-probe-{os.getpid()}"
    with _answering(cluster.host) as (address, was_asked):
        run = ["run", name, f"--image={image}", "--restart=Never", "--command", "--"]
        cluster.kubectl(*run, "python3", "-c", IN_THE_POD, address)
        try:
            eventually(lambda: _runs(cluster, name), f"a pod of {image}; {_hint(cluster, name)}", pull_seconds)
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


def _pod(cluster: Cluster, name: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(cluster.kubectl("get", "pod", name, "--output", "json"))
    return found


def _runs(cluster: Cluster, name: str) -> bool:
    phase = _pod(cluster, name)["status"].get("phase")
    if phase == "Failed":
        raise AssertionError(
            f"pods do not reach this machine at BINDERY_TEST_HOST={cluster.host}: "
            + cluster.kubectl("logs", name, is_checked=False)[-500:]
        )
    return phase == "Running"


def _hint(cluster: Cluster, name: str) -> str:
    return (
        f"the cluster must be able to pull from BINDERY_TEST_REGISTRY={REGISTRY}: "
        f"`kubectl --kubeconfig {cluster.kubeconfig} describe pod {name}` says more"
    )


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
        return bool(reply.status == 200)
    return False


@contextlib.contextmanager
def _answering(host: str) -> Iterator[tuple[str, threading.Event]]:
    """Serve at an address of this machine; the event tells that somebody asked."""
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
