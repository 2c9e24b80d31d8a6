"""What the Prometheus operator makes of a PodMonitor."""

from typing import Any

import pytest

from tests.support.prometheus import scrape_configs, targets_of

ENDPOINT = {
    "port": "http",
    "path": "/metrics",
    "interval": "15s",
    "authorization": {"credentials": {"name": "bindery", "key": "metrics-token"}},
}
SELECTOR = {
    "matchLabels": {"app.kubernetes.io/name": "bindery"},
    "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["builder", "worker"]}],
}


def monitor(**spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "bindery", "namespace": "binder"},
        "spec": {"selector": SELECTOR, "podMetricsEndpoints": [ENDPOINT]} | spec,
    }


def configs_of(monitor: dict[str, Any]) -> list[dict[str, Any]]:
    return scrape_configs(monitor, discovery_url="http://pods", read_secret=lambda name, key: f"{key} of {name}")


def test_a_pod_monitor_selects_pods_by_its_labels_and_the_port_by_its_name() -> None:
    [config] = configs_of(monitor())
    kept = {
        rule["source_labels"][0]: rule["regex"] for rule in config["relabel_configs"] if rule.get("action") == "keep"
    }
    assert kept == {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": "(bindery);true",
        "__meta_kubernetes_pod_label_app_kubernetes_io_component": "(builder|worker);true",
        "__meta_kubernetes_pod_container_port_name": "http",
    }
    assert config["authorization"] == {"type": "Bearer", "credentials": "metrics-token of bindery"}
    assert (config["scrape_interval"], config["metrics_path"]) == ("15s", "/metrics")


def test_a_field_that_is_not_understood_is_an_error_and_not_left_out() -> None:
    with pytest.raises(AssertionError, match="namespaceSelector"):
        configs_of(monitor(namespaceSelector={"any": True}))
    with pytest.raises(AssertionError, match="honorLabels"):
        configs_of(monitor(podMetricsEndpoints=[ENDPOINT | {"honorLabels": True}]))


def test_each_port_of_a_pod_is_a_target_once_the_pod_has_an_address() -> None:
    pod = {
        "metadata": {"name": "builder-1", "namespace": "binder", "labels": {"app.kubernetes.io/name": "bindery"}},
        "spec": {
            "containers": [{"name": "builder", "ports": [{"name": "http", "containerPort": 8080}]}, {"name": "x"}]
        },
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }
    [target] = targets_of(pod)
    assert target["targets"] == ["10.0.0.7:8080"]
    labels = {name.removeprefix("__meta_kubernetes_"): value for name, value in target["labels"].items()}
    assert labels == {
        "namespace": "binder", "pod_name": "builder-1", "pod_phase": "Running", "pod_container_name": "builder",
        "pod_container_port_name": "http", "pod_label_app_kubernetes_io_name": "bindery",
        "pod_labelpresent_app_kubernetes_io_name": "true",
    }  # fmt: skip
    assert targets_of(pod | {"status": {"phase": "Pending"}}) == []
