"""The real definitions of KEDA, the Prometheus operator and the Gateway API refuse what they don't know."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import Manifest
from tests.support.manifest_schemas import schemas

SCALED_OBJECT = {
    "scaleTargetRef": {"name": "worker"},
    "minReplicaCount": 0,
    "triggers": [{"type": "prometheus", "metadata": {"threshold": "1"}, "authenticationRef": {"name": "prometheus"}}],
}
AUTHENTICATION = {"secretTargetRef": [{"parameter": "bearerToken", "name": "prometheus", "key": "token"}]}
ENDPOINTS = [{"port": "http", "interval": "15s", "authorization": {"credentials": {"name": "secret", "key": "token"}}}]
RULES = {"groups": [{"name": "bindery", "rules": [{"alert": "Down", "expr": "up == 0", "for": "5m"}]}]}
ROUTE = {
    "parentRefs": [{"name": "public", "namespace": "gateways"}],
    "hostnames": ["bindery.example.org"],
    "rules": [{"backendRefs": [{"name": "gateway", "port": 80}], "timeouts": {"request": "0s"}}],
}

KINDS: dict[str, tuple[str, Any]] = {
    "ScaledObject": ("keda.sh/v1alpha1", SCALED_OBJECT),
    "TriggerAuthentication": ("keda.sh/v1alpha1", AUTHENTICATION),
    "ServiceMonitor": ("monitoring.coreos.com/v1", {"selector": {}, "endpoints": ENDPOINTS}),
    "PodMonitor": ("monitoring.coreos.com/v1", {"selector": {}, "podMetricsEndpoints": ENDPOINTS}),
    "PrometheusRule": ("monitoring.coreos.com/v1", RULES),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", ROUTE),
}


def problems(kind: str, **more: object) -> list[str]:
    api_version, spec = KINDS[kind]
    manifest: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": {**spec, **more}}
    return schemas("1.34").problems([manifest])


def test_there_is_a_definition_of_each_kind(crds: list[Path]) -> None:
    assert {yaml.safe_load(file.read_text())["spec"]["names"]["kind"] for file in crds} == set(KINDS)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_resource_passes_and_an_unknown_field_is_named(kind: str) -> None:
    assert problems(kind) == []

    (problem,) = problems(kind, misspelt=1)
    assert problem.startswith(f"{kind} a: spec: ")
    assert "'misspelt' was unexpected" in problem


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("kind", "spec", "place"),
    [
        ("ScaledObject", {"triggers": [{"type": "prometheus", "metadata": {"threshold": 1}}]}, "triggers[0].metadata"),
        ("ScaledObject", {"triggers": [{"type": "prometheus", "metadata": {}, "authRef": {}}]}, "triggers[0]"),
        ("TriggerAuthentication", {"secretTargetRef": [{"parameter": "a", "name": "b"}]}, "secretTargetRef[0]"),
        ("PodMonitor", {"podMetricsEndpoints": [{"port": 8000}]}, "podMetricsEndpoints[0].port"),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"alert": "a"}]}]}, "groups[0].rules[0]"),
        ("HTTPRoute", {"rules": [{"timeouts": {"request": "never"}}]}, "rules[0].timeouts.request"),
        ("HTTPRoute", {"rules": [{"matches": [{"path": {"type": "Glob"}}]}]}, "rules[0].matches[0].path.type"),
    ],
)
def test_what_is_wrong_deep_inside_is_found_with_its_place(kind: str, spec: dict[str, Any], place: str) -> None:
    (problem,) = problems(kind, **spec)

    assert problem.startswith(f"{kind} a: spec.{place}")
