"""A Prometheus that scrapes what a PodMonitor selects, as the Prometheus operator would set it up.

Debian's Prometheus knows no discovery by Kubernetes: a server here lists the pods in its place, by the same labels.
"""

import contextlib
import http.server
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.engine import install
from tests.support.helm import Manifest
from tests.support.polling import eventually

_META = "__meta_kubernetes"
_DISCOVERY_SECONDS = 2
ReadSecret = Callable[[str, str], str]
"""Returns the value of a Secret's key."""
ListPods = Callable[[], Iterable[Manifest]]
"""Returns the pods of the PodMonitor's namespace."""


def scrape_configs(monitor: Manifest, *, discovery_url: str, read_secret: ReadSecret) -> list[dict[str, Any]]:
    """Return what the operator makes of a PodMonitor. Fails for a field that is not understood here."""
    name, namespace = monitor["metadata"]["name"], monitor["metadata"]["namespace"]
    spec = _only(monitor["spec"], "selector", "podMetricsEndpoints")
    selector = _only(spec["selector"], "matchLabels", "matchExpressions")
    kept = [_of_label(label, value) for label, value in selector.get("matchLabels", {}).items()]
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        kept.append(_of_label(expression["key"], "|".join(expression["values"])))

    configs = []
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        _only(endpoint, "port", "path", "interval", "authorization", "filterRunning")
        credentials = endpoint["authorization"]["credentials"]
        configs.append(
            {
                "job_name": f"podMonitor/{namespace}/{name}/{number}",
                "scrape_interval": endpoint["interval"],
                "scrape_timeout": endpoint["interval"],
                "metrics_path": endpoint.get("path", "/metrics"),
                "authorization": {
                    "type": endpoint["authorization"].get("type", "Bearer"),
                    "credentials": read_secret(credentials["name"], credentials["key"]),
                },
                "http_sd_configs": [{"url": discovery_url, "refresh_interval": f"{_DISCOVERY_SECONDS}s"}],
                "relabel_configs": [
                    {"action": "drop", "source_labels": [f"{_META}_pod_phase"], "regex": "Failed|Succeeded"},
                    *kept,
                    _kept([f"{_META}_pod_container_port_name"], endpoint["port"]),
                    {"source_labels": [f"{_META}_namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{_META}_pod_container_name"], "target_label": "container"},
                    {"source_labels": [f"{_META}_pod_name"], "target_label": "pod"},
                    {"target_label": "job", "replacement": f"{namespace}/{name}"},
                    {"target_label": "endpoint", "replacement": endpoint["port"]},
                ],
            }
        )
    return configs


def _only(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    assert set(fields) <= set(names), f"not understood: {set(fields) - set(names)}"
    return fields


def _of_label(label: str, values: str) -> dict[str, Any]:
    return _kept([f"{_META}_pod_{part}_{_sanitized(label)}" for part in ("label", "labelpresent")], f"({values});true")


def _kept(labels: list[str], regex: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": labels, "regex": regex}


def _sanitized(label: str) -> str:
    return re.sub(r"\W", "_", label, flags=re.ASCII)


def targets_of(pod: Manifest) -> list[dict[str, Any]]:
    """Return the targets that discovery by Kubernetes (role pod) gives for a pod: one for each port that it names."""
    metadata, status = pod["metadata"], pod["status"]
    if not status.get("podIP"):
        return []
    of_pod = {
        f"{_META}_namespace": metadata["namespace"],
        f"{_META}_pod_name": metadata["name"],
        f"{_META}_pod_phase": status["phase"],
    }
    for label, value in metadata.get("labels", {}).items():
        of_pod[f"{_META}_pod_label_{_sanitized(label)}"] = value
        of_pod[f"{_META}_pod_labelpresent_{_sanitized(label)}"] = "true"
    return [
        {
            "targets": [f"{status['podIP']}:{port['containerPort']}"],
            "labels": of_pod
            | {
                f"{_META}_pod_container_name": container["name"],
                f"{_META}_pod_container_port_name": port.get("name", ""),
            },
        }
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    ]


@contextlib.contextmanager
def _discovery(list_pods: ListPods) -> Iterator[str]:
    """Serve the targets of the pods that there are; yield the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps([target for pod in list_pods() for target in targets_of(pod)]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # Prometheus has ended
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Sample:
    """One element of what a query gives."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers at `url`."""

    url: str

    def samples(self, query: str, at: float) -> list[Sample]:
        """Ask a query that gives a vector, as of a time."""
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": query, "time": f"{at:.3f}"}, trust_env=False)
        assert reply.status_code == 200, f"{query}: {reply.text}"
        data = reply.json()["data"]
        assert data["resultType"] == "vector", data
        return [Sample(item["metric"], float(item["value"][1])) for item in data["result"]]

    def value(self, query: str, at: float) -> float | None:
        """Ask a query that gives one number, or none."""
        samples = self.samples(query, at)
        assert len(samples) <= 1, f"{query} gives {len(samples)}"
        return samples[0].value if samples else None


@contextlib.contextmanager
def prometheus(
    folder: Path, port: int, monitor: Manifest, *, list_pods: ListPods, read_secret: ReadSecret
) -> Iterator[Prometheus]:
    """Run a Prometheus that has this PodMonitor. Raise `NoEngineError` if it can't be installed."""
    install("prometheus=prometheus")
    with _discovery(list_pods) as discovery_url:
        config = folder / "prometheus.yml"
        configs = scrape_configs(monitor, discovery_url=discovery_url, read_secret=read_secret)
        config.write_text(json.dumps({"scrape_configs": configs}))  # which is YAML, too
        config.chmod(0o600)
        command = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
            return False

        try:
            eventually(is_ready, "Prometheus is ready")
            yield Prometheus(url)
        finally:
            process.terminate()
            process.wait(30)
