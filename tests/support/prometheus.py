"""A Prometheus that scrapes what a PodMonitor selects, as the Prometheus operator would set it up."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.engine import install
from tests.support.helm import Manifest
from tests.support.polling import eventually

ReadSecret = Callable[[str, str], str]
"""Returns the value of a Secret's key."""


def scrape_configs(monitor: Manifest, *, kubeconfig: Path, read_secret: ReadSecret) -> list[dict[str, Any]]:
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
                "kubernetes_sd_configs": [
                    {"role": "pod", "kubeconfig_file": str(kubeconfig), "namespaces": {"names": [namespace]}}
                ],
                "relabel_configs": [
                    {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Failed|Succeeded"},
                    *kept,
                    _kept(["__meta_kubernetes_pod_container_port_name"], endpoint["port"]),
                    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                    {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
                    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
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
    sanitized = re.sub(r"\W", "_", label, flags=re.ASCII)
    return _kept([f"__meta_kubernetes_pod_label{part}_{sanitized}" for part in ("", "present")], f"({values});true")


def _kept(labels: list[str], regex: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": labels, "regex": regex}


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
def prometheus(folder: Path, port: int, configs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Run a Prometheus with these scrape configurations. Raise `NoEngineError` if it can't be installed."""
    install("prometheus=prometheus")
    config = folder / "prometheus.yml"
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
