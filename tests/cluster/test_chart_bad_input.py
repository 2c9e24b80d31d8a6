"""What the chart is refused for after a look at the real cluster: in sentences that say what to do."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import crds
from tests.support.chart_trial import ChartTrial, bare_namespace, in_one_namespace
from tests.support.cluster import Cluster, secret
from tests.support.helm_release import CHART, merged
from tests.support.polling import eventually

NUMBERS = itertools.count()


@pytest.fixture
def trial(the_cluster: Cluster, tmp_path: Path) -> Iterator[ChartTrial]:
    """The chart in a new namespace."""
    with bare_namespace(the_cluster, f"bindery-bad-{os.getpid()}-{next(NUMBERS)}") as namespace:
        yield ChartTrial(namespace, tmp_path)


NAMED: dict[str, Any] = {
    "secrets": {"existing": "own"},
    "registry": {"existingSecret": "login"},
    "hub": {"tokenSecret": {"name": "of-the-hub"}},
    "engine": {"tlsSecret": "certificate"},
}


def test_secrets_that_are_missing_or_lack_keys_are_named_with_their_keys(trial: ChartTrial) -> None:
    values = NAMED | in_one_namespace(trial.namespace)
    place = f"in the namespace {trial.namespace.name}"
    own_advice = (
        "(installation-id as `openssl rand -hex 6` prints it, each of the others as `openssl rand -hex 32` does)"
    )
    login_advice = "(`kubectl create secret docker-registry` makes one of the right type)"
    hub_key = "hub.services.bindery-launcher.apiToken"
    hub_advice = "(hub.tokenSecret.key says which key has the launcher's token)"
    engine_advice = "(they are the client's certificate for the engine)"
    assert trial.problems(**values) == [
        f"there is no Secret own {place}, which secrets.existing names: make it with the keys installation-id, "
        f"installation-secret, service-token, metrics-token {own_advice}.",
        f"there is no Secret login {place}, which registry.existingSecret names: make it with the key "
        f".dockerconfigjson {login_advice}.",
        f"there is no Secret of-the-hub {place}, which hub.tokenSecret.name names: make it with the key {hub_key} "
        f"{hub_advice}.",
        f"there is no Secret certificate {place}, which engine.tlsSecret names: make it with the keys ca.pem, "
        f"cert.pem, key.pem {engine_advice}.",
    ]

    trial.apply(
        secret("own", **{"installation-id": "a", "service-token": "b", "metrics-token": "", "hub-crypt-key": "short"}),
        secret("login", username="me", password="secret"),
        secret("of-the-hub", token="c"),
        secret("certificate", **{"cert.pem": "d", "key.pem": "e"}),
    )
    assert trial.problems(**values) == [
        f"the Secret own {place}, which secrets.existing names, has nothing at installation-secret, metrics-token: add "
        f"them {own_advice}.",
        "hub-crypt-key in the Secret own is not 32 bytes in hexadecimal or base64, as JupyterHub needs it: make it "
        "with `openssl rand -hex 32`.",
        f"the Secret login {place}, which registry.existingSecret names, has nothing at .dockerconfigjson: add it "
        f"{login_advice}.",
        f"the Secret of-the-hub {place}, which hub.tokenSecret.name names, has nothing at {hub_key}: add it "
        f"{hub_advice}.",
        f"the Secret certificate {place}, which engine.tlsSecret names, has nothing at ca.pem: add it {engine_advice}.",
    ]
    assert trial.problems(**values, checks={"enabled": False}) == []


def test_a_secret_for_a_namespace_that_the_release_makes_is_asked_for_in_the_notes(trial: ChartTrial) -> None:
    notes = trial.notes(engine={"tlsSecret": "certificate"}, imagePullSecrets=["pull"])
    builds = f"{trial.namespace.name}-builds"
    asked_for = f"certificate in {builds}, pull in {builds}"
    assert f"- Make these Secrets in namespaces that this release has made, too: {asked_for}.\n" in notes


def quota(name: str, **hard: str) -> dict[str, Any]:
    named = {resource.replace("_", "."): amount for resource, amount in hard.items()}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": named}}


def test_a_quota_that_is_too_small_is_refused_with_what_is_left_and_what_is_needed(trial: ChartTrial) -> None:
    hard = {"pods": "8", "requests.cpu": "650m", "requests.memory": "1Gi", "limits.memory": "64Gi"}
    trial.apply(quota("small", **hard), quota("limited", limits_cpu="4"))
    name = trial.namespace.name
    eventually(lambda: has_been_counted(trial, "small", "limited"), "the quotas are counted")

    small = f"the quota small of the namespace {name} leaves"
    needs_all = "raise it, or lower the parts' replicas and resources."
    parts = "builder, gateway, launcher, resolver, worker"
    too_little = [
        f"{small} 8 of pods, and this release needs 10: raise it, or lower the parts' replicas.",
        f"{small} 0.65 of requests.cpu, and this release needs 0.7: {needs_all}",
        f"{small} 1024Mi of requests.memory, and this release needs 1600Mi: {needs_all}",
    ]
    without_limits = (
        f"the quota limited of the namespace {name} counts limits.cpu, and refuses pods that don't say it, as those of "
        f"{parts}: set it in their resources, or give the namespace a LimitRange with a default."
    )
    assert trial.problems() == [without_limits, *too_little]

    limits = [{"type": "Container", "default": {"cpu": "500m"}}]
    trial.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "a"}, "spec": {"limits": limits}})
    assert trial.problems() == too_little
    assert trial.problems(worker={"replicas": 0}, gateway={"autoscaling": {"minReplicas": 1}}) == []


def has_been_counted(trial: ChartTrial, *quotas: str) -> bool:
    """Return whether the cluster has written the quotas' status."""
    used = [trial.namespace.kubectl("get", "quota", name, "-o", "jsonpath={.status.used}") for name in quotas]
    return all(used)


def test_storage_classes_that_are_missing_are_named_with_those_that_are_there(
    trial: ChartTrial, own_cluster: Cluster
) -> None:
    assert own_cluster.kubectl("get", "storageclass", "-o", "name") == "", "the cluster of the tests has none"
    values = {
        "engine": {"kind": "dind"},
        "redis": {"bundled": True, "url": ""},
        "registry": {"bundled": True},
        "hub": {"bundled": True, "apiUrl": ""},
    }
    named = {
        "redis": {"persistence": {"storageClass": "fast"}},
        "registry": {"persistence": {"storageClass": "-", "volumeName": "mine"}},
    }
    assert trial.problems(**merged(values, named)) == [
        "there is no storage class fast, which redis.persistence.storageClass names (there are: none).",
        "the cluster has no default storage class, and hub.persistence.storageClass names none (there are: none). Name "
        'one, or set it to "-" for a volume that you have made.',
    ]


def test_namespaces_that_are_somebody_elses_missing_or_too_strict_are_named(
    trial: ChartTrial, the_cluster: Cluster
) -> None:
    name = trial.namespace.name
    level = {"pod_security.kubernetes.io__enforce": "restricted"}
    with bare_namespace(the_cluster, f"{name}-builds", **level):
        assert trial.problems() == [
            f"the namespace {name}-builds exists, and this release has not made it: set builds.namespace.create to "
            "false to use it as it is, or builds.namespace.name to another."
        ]
        existing: dict[str, Any] = {
            "builds": {"namespace": {"create": False}},
            "servers": {"namespace": {"create": False}},
            "hub": {"bundled": True, "apiUrl": "", "persistence": {"storageClass": "-"}},
        }
        missing = f"there is no namespace {name}-servers for servers: make it, or set servers.namespace.create to true."
        refuses = (
            f"the namespace {name}-builds has the label pod-security.kubernetes.io/enforce=restricted, which refuses"
        )
        assert trial.problems(**existing) == [
            f"{refuses} the pods of builds and servers, which don't say that they run as no root: set it to baseline, "
            "or name another namespace (builds.namespace.name, servers.namespace.name).",
            missing,
        ]
        assert trial.problems(**existing, engine={"kind": "socket"}) == [
            f"{refuses} the pods of builds, which have the engine's socket: set it to privileged, or let builds reach "
            "an engine elsewhere (engine.kind address).",
            missing,
        ]

    eventually(lambda: trial.problems() == [], "the namespace is gone", 60)


def test_a_release_in_a_strict_namespace_is_refused_only_with_the_bundled_registry(trial: ChartTrial) -> None:
    name = trial.namespace.name
    trial.namespace.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    registry = {"bundled": True, "persistence": {"storageClass": "-"}}
    assert trial.problems() == []
    assert trial.problems(engine={"kind": "dind"}, registry=registry) == [
        f"the namespace {name} has the label pod-security.kubernetes.io/enforce=restricted, which refuses the bundled "
        "registry, which has a port of its node: set it to privileged, or set registry.imagePrefix to a registry "
        "elsewhere."
    ]


def test_what_another_installation_has_taken_is_named_with_who_has_it(trial: ChartTrial, tmp_path: Path) -> None:
    """The other one, of which nothing runs, is what the chart renders: only its release has another name.

    Its registry asks for a volume that is not there, so that it takes none of another test's.
    """
    name = trial.namespace.name
    own: dict[str, Any] = {
        "fullnameOverride": "same",
        "engine": {"kind": "dind"},
        "registry": {"bundled": True, "hostPort": 5999, "persistence": {"storageClass": "-", "volumeName": "nowhere"}},
    } | in_one_namespace(trial.namespace)
    nowhere = {"everyPart": {"nodeSelector": {"bindery/nowhere": "true"}}, "secrets": {"existing": "another"}}
    taken = {"DaemonSet", "StatefulSet", "PriorityClass", "ConfigMap"}
    values = merged(own, nowhere)
    rendered = trial.helm.template(CHART, values_files=[trial.values_file(values)], release="another", namespace=name)
    trial.apply(*(manifest for manifest in rendered if manifest["kind"] in taken))
    try:
        advice = "exists, and this release has not made it"
        assert trial.problems(**own) == [
            f"the PriorityClass {name}-same-services {advice}: set fullnameOverride to a name of its own.",
            f"the ConfigMap same-settings in the namespace {name} {advice}, so another has the same names: set "
            "fullnameOverride to a name of its own.",
            f"the registry of another Bindery, same-registry in the namespace {name}, has the port 5999 of its node: "
            "set registry.hostPort to another.",
        ]
        other = {
            "fullnameOverride": "other",
            "registry": {"hostPort": 5998},
        }
        assert trial.problems(**merged(own, other)) == []
    finally:
        classes = [f"{name}-same-{of}" for of in ("services", "servers", "builds")]
        trial.cluster.kubectl("delete", "priorityclass", *classes, "--ignore-not-found")


@pytest.mark.timeout(900)  # a run of the scaling's test has them defined for some minutes
def test_apis_and_an_ingress_class_that_the_cluster_lacks_are_named(trial: ChartTrial, own_cluster: Cluster) -> None:
    assert own_cluster.is_own
    values: dict[str, Any] = {
        "publicUrl": "https://bindery.example.org",
        "worker": {"autoscaling": {"by": "keda", "keda": {"prometheusUrl": "http://prometheus:9090"}}},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        "monitoring": {"podMonitor": {"enabled": True}},
        "ingress": {"enabled": True, "className": "nginx"},
    }
    lacks = "but the cluster does not know"
    with crds.undefined(own_cluster):
        problems = trial.problems(**values)
    assert problems == [
        f"worker.autoscaling.by is keda, {lacks} keda.sh/v1alpha1/ScaledObject: install KEDA, or leave it out.",
        f"httpRoute.enabled is true, {lacks} gateway.networking.k8s.io/v1/HTTPRoute: install the Gateway API and a "
        "controller for it, or leave it out.",
        f"monitoring.podMonitor.enabled is true, {lacks} monitoring.coreos.com/v1/PodMonitor: install the Prometheus "
        "operator, or leave it out.",
        "there is no ingress class nginx, which ingress.className names (there are: none): install its controller, or "
        "name another.",
    ]
