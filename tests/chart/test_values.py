"""What single values do in what is rendered."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.cases import CHART, NEEDED, Values
from tests.support.helm import Helm, Manifest

ONE_NODE: Values = {"registry": {"bundled": True}}
LOGIN: Values = {"imagePrefix": "registry.example.org/binder/", "username": "me", "password": "secret"}


@pytest.fixture
def rendered(helm: Helm, tmp_path: Path) -> Any:
    """Return the function that renders the chart with values over what it needs at the least."""

    def render(values: Values, *, release: str = "bindery", namespace: str = "bindery") -> list[Manifest]:
        files = [tmp_path / "needed.json", tmp_path / "values.json"]
        for file, some_values in zip(files, (NEEDED, values), strict=True):
            file.write_text(json.dumps(some_values))
        return helm.template(CHART, values_files=files, release=release, namespace=namespace)

    return render


def the(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod_of(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    spec: Manifest = the(manifests, kind, name)["spec"]["template"]["spec"]
    return spec


def pulls_with(manifests: list[Manifest]) -> dict[str, list[str]]:
    """Return the Secrets that pods pull with: those of a service, of the engine, of builds and of servers."""
    worker = yaml.safe_load(the(manifests, "ConfigMap", "bindery-settings")["data"]["worker.yaml"])
    servers = json.loads(the(manifests, "ConfigMap", "bindery-hub")["data"]["servers.json"])
    secrets = {
        part: [each["name"] for each in pod_of(manifests, kind, f"bindery-{part}").get("imagePullSecrets", [])]
        for part, kind in (("gateway", "Deployment"), ("engine", "DaemonSet"))
    }
    return secrets | {
        "builds": worker["kubernetes_image_pull_secrets"],
        "servers": servers["image_pull_secrets"],
    }


def logins(manifests: list[Manifest]) -> set[str]:
    """Return the namespaces that have the registry's login."""
    name = "bindery-registry-login"
    return {each["metadata"]["namespace"] for each in manifests if each["metadata"]["name"] == name}


def test_own_images_are_pulled_with_the_login_of_the_registry_that_has_both(rendered: Any) -> None:
    shared = rendered({"registry": LOGIN})
    assert pulls_with(shared) == {key: ["bindery-registry-login"] for key in pulls_with(shared)}
    assert logins(shared) == {"bindery", "bindery-builds", "bindery-servers"}

    elsewhere = rendered({"registry": LOGIN | {"imagePrefix": "other.example.org/binder/"}})
    assert pulls_with(elsewhere) == {"gateway": [], "engine": [], "builds": [], "servers": ["bindery-registry-login"]}
    assert logins(elsewhere) == {"bindery", "bindery-servers"}


def test_the_login_that_may_push_is_kept_from_servers_if_the_values_say_so(rendered: Any) -> None:
    kept = rendered({"registry": LOGIN, "servers": {"registryLogin": False}})
    assert pulls_with(kept)["servers"] == []
    assert logins(kept) == {"bindery", "bindery-builds"}


def test_the_engine_takes_nothing_of_every_part(rendered: Any) -> None:
    extra: Values = {
        "extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "of-the-release", "key": "a"}}}],
        "extraVolumes": [{"name": "extra", "configMap": {"name": "of-the-release"}}],
        "imagePullSecrets": ["of-the-release"],
    }
    manifests = rendered(ONE_NODE | {"everyPart": extra})
    assert "of-the-release" in json.dumps(pod_of(manifests, "Deployment", "bindery-gateway"))
    assert "of-the-release" not in json.dumps(pod_of(manifests, "DaemonSet", "bindery-engine"))


def test_two_releases_never_have_the_same_folder_of_a_node(rendered: Any) -> None:
    one = rendered(ONE_NODE, release="bindery", namespace="a-b")
    two = rendered(ONE_NODE | {"fullnameOverride": "b-bindery"}, release="other", namespace="a")
    folders = [
        {
            volume["hostPath"]["path"]
            for volume in pod_of(manifests, "DaemonSet", name)["volumes"]
            if "hostPath" in volume
        }
        for manifests, name in ((one, "bindery-engine"), (two, "b-bindery-engine"))
    ]
    assert [len(each) for each in folders] == [2, 2]
    assert not folders[0] & folders[1]


def test_the_hub_knows_what_the_launcher_is_told_of_starts_and_ages(rendered: Any) -> None:
    values = {"server_start_max_seconds": 7200, "server_start_timeout_seconds": 600, "idle_timeout_seconds": 30}
    manifests = rendered(ONE_NODE | {"everyPart": {"extraConfig": values}})
    launcher = yaml.safe_load(the(manifests, "ConfigMap", "bindery-settings")["data"]["launcher.yaml"])
    [hub] = pod_of(manifests, "StatefulSet", "bindery-hub")["containers"]
    told = {variable["name"]: variable.get("value") for variable in hub["env"]}
    for name, value in (values | {"max_age_seconds": 21600}).items():
        assert (launcher[name], told[f"BINDERY_{name.upper()}"]) == (value, str(value))


def test_proxy_and_registry_take_settings_of_their_programs(rendered: Any) -> None:
    traefik = {"accesslog": True, "entrypoints.published.http.maxheaderbytes": 2097152}
    distribution = {
        "log": {"accesslog": {"disabled": False}},
        "storage": {"maintenance": {"readonly": {"enabled": True}}},
    }
    manifests = rendered(
        {"proxy": {"extraConfig": traefik}, "registry": {"bundled": True, "extraConfig": distribution}}
    )
    [proxy] = pod_of(manifests, "Deployment", "bindery-proxy")["containers"]
    assert {"--accesslog=true", "--entrypoints.published.http.maxheaderbytes=2097152"} <= set(proxy["args"])
    config = yaml.safe_load(the(manifests, "ConfigMap", "bindery-registry")["data"]["registry.yaml"])
    assert config["log"] == {"level": "warn", "accesslog": {"disabled": False}}
    assert config["storage"]["maintenance"]["readonly"]["enabled"]
    assert config["storage"]["filesystem"] == {"rootdirectory": "/var/lib/registry"}


def test_pods_of_the_proxy_are_drained_one_by_one(rendered: Any) -> None:
    manifests = rendered(ONE_NODE | {"proxy": {"replicas": 2, "maxUnavailable": 1}})
    budget = the(manifests, "PodDisruptionBudget", "bindery-proxy")["spec"]
    assert budget["maxUnavailable"] == 1
    labels = the(manifests, "Deployment", "bindery-proxy")["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_keda_may_ask_at_a_path_and_keeps_no_fewer_workers_than_the_least(rendered: Any) -> None:
    keda = {"by": "keda", "minReplicas": 3, "keda": {"prometheusUrl": "http://vmselect:8481/select/0/prometheus"}}
    manifests = rendered(ONE_NODE | {"builds": {"capacity": 4}, "worker": {"autoscaling": keda}})
    scaled = the(manifests, "ScaledObject", "bindery-worker")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (3, 3)
