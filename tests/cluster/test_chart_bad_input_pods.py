"""What pods of an installation say when they can't work as they are configured, where an operator looks first."""

import itertools
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import service_images
from tests.support.chart_trial import NO_PODS, ChartTrial, bare_namespace, in_one_namespace
from tests.support.cluster import Cluster, Namespace
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.helm_release import IMAGES_PREFIX, INSTALL_SECONDS, merged, push_images
from tests.support.installed import SERVICES
from tests.support.polling import eventually
from tests.support.real_hub import HubStack
from tests.support.tcp_proxy import relay
from tests.support.valkey import PASSWORD, running_valkey

ONE_POD = {part: {"replicas": 1} for part in SERVICES}
NUMBERS = itertools.count()


@pytest.fixture
def namespace(the_cluster: Cluster) -> Iterator[Namespace]:
    with bare_namespace(the_cluster, f"bindery-bad-pods-{os.getpid()}-{next(NUMBERS)}") as own_namespace:
        yield own_namespace


def pod_of(trial: ChartTrial, part: str) -> dict[str, Any]:
    """Return the newest pod of a part."""
    selector = f"--selector=app.kubernetes.io/component={part}"
    listed = json.loads(trial.namespace.kubectl("get", "pods", selector, "-o", "json"))["items"]
    return max(listed, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default={})


def state_of(trial: ChartTrial, part: str, *names: str) -> Any:
    """Return a field of the state of a part's container, as `kubectl describe` shows it; None without it."""
    value: Any = next(iter(pod_of(trial, part).get("status", {}).get("containerStatuses", [])), {})
    for name in names:
        value = value.get(name) or {}
    return value


def troubles(trial: ChartTrial, part: str) -> set[str]:
    """Return what a part's newest pod says in its log of what is wrong."""
    name = pod_of(trial, part).get("metadata", {}).get("name", "none")
    lines = trial.namespace.kubectl("logs", name, is_checked=False).splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return {str(entry.get("trouble") or entry.get("reason")) for entry in entries}


def test_each_pod_says_in_a_sentence_what_it_lacks(
    the_cluster: Cluster, the_engine: Engine, namespace: Namespace, tmp_path: Path
) -> None:
    service_images.ensure(the_engine)
    images = push_images(the_engine)
    host = the_cluster.host
    (tmp_path / "valkey").mkdir()
    with (
        running_valkey(tmp_path / "valkey") as valkey,
        relay(valkey.socket, listen=(host, 0)) as redis_address,
        Registry(tmp_path, users={"somebody": "else"}, host="") as registry,
    ):
        address = redis_address.rpartition("/")[2]
        registry_address = f"{host}:{registry.port}"
        values = {
            "images": images,
            "redis": {"url": f"redis://{{user}}:{{password}}@{address}/0"},
            "registry": {
                "imagePrefix": f"{registry_address}/r2d-",
                "url": f"http://{registry_address}",
                "username": "me",
                "password": "wrong",
            },
            "hub": {"apiUrl": f"http://{host}:9/hub/api/"},
            "gateway": {"extraConfig": {"drain_secondz": 5}},
            "resolver": {"image": f"{IMAGES_PREFIX}resolver:absent"},
            "secrets": {
                "values": {"installation-id": "default", "redis-worker-password": "wrong"}
                | {f"redis-{part}-password": PASSWORD for part in SERVICES if part != "worker"}
            },
        } | in_one_namespace(namespace)
        trial = ChartTrial(namespace, tmp_path, values=merged(merged(NO_PODS, ONE_POD), values))
        try:
            trial.install()
            check_first_pods(trial, host, address, registry_address)
            check_token_of_hub(trial, host, tmp_path / "hub")
        finally:
            trial.uninstall()


def says(trial: ChartTrial, part: str, sentence: str) -> bool:
    return sentence in troubles(trial, part)


def check_first_pods(trial: ChartTrial, host: str, redis: str, registry: str) -> None:
    """Check what the pods of an installation say that was begun just now: their images may have to be pulled."""
    expected = {
        "launcher": f"JupyterHub does not work at http://{host}:9/hub/api/: no answer (connection refused). Start "
        "it, or name it in BINDERY_HUB_API_URL.",
        "builder": f"The image registry {registry} gives us no access: it refuses our login to r2d-health-check (401). "
        "See that the login in BINDERY_DOCKER_CONFIG is right, and may read and push there.",
        "worker": f"Redis at {redis}/0 refuses the user or the password in BINDERY_REDIS_URL: write those of Redis' "
        "file of users there, or mend the file and run ACL LOAD; see docs/redis.md.",
    }
    for part, sentence in expected.items():
        eventually(partial(says, trial, part, sentence), f"{part}: {sentence}", INSTALL_SECONDS)

    state = partial(state_of, trial, "gateway", "lastState", "terminated")
    ended = eventually(state, "the gateway has ended", INSTALL_SECONDS)
    assert ended["exitCode"] == 1
    sentence = "settings.yaml has settings that no service knows: 'drain_secondz' (did you mean 'drain_seconds'?)."
    assert ended["message"].strip().endswith(f"/etc/bindery/{sentence}")
    waits = eventually(lambda: state_of(trial, "resolver", "state", "waiting", "message"), "no image", 60)
    assert f"{IMAGES_PREFIX}resolver:absent" in waits


def check_token_of_hub(trial: ChartTrial, host: str, folder: Path) -> None:
    hub = HubStack(folder, BINDERY_HUB_LISTEN_HOST=host)
    try:
        hub.start()
        trial.upgrade(hub={"apiUrl": hub.api})
        sentence = (
            "JupyterHub does not accept our token: it answered 403. Set BINDERY_HUB_API_TOKEN to the api_token that "
            "the hub's configuration gives the launcher's service (docs/hubs.md)."
        )
        eventually(lambda: sentence in troubles(trial, "launcher"), sentence, 60)
    finally:
        hub.stop()


def test_who_may_do_everything_in_one_namespace_installs_and_removes(
    the_cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    """With rights in one namespace alone, `checks.enabled` must be false: Helm says so, by the name of the template."""
    installer = Namespace(the_cluster, namespace.name, "installer")
    installer.kubectl("create", "serviceaccount", installer.account)
    account = f"{namespace.name}:{installer.account}"
    installer.kubectl("create", "rolebinding", "installer", "--clusterrole=admin", f"--serviceaccount={account}")
    kubeconfig = installer.kubeconfig(tmp_path)

    values = merged(NO_PODS, in_one_namespace(namespace)) | {"priorityClasses": {"create": False}}
    trial = ChartTrial(namespace, tmp_path, values=values, kubeconfig=kubeconfig)
    refusal = trial.refusal()
    assert "without the right to read it, set checks.enabled to false" in refusal
    assert f'User "system:serviceaccount:{account}" cannot' in refusal

    without_checks = {"checks": {"enabled": False}}
    trial.install(**without_checks)
    made = "deployments,services,configmaps,secrets,roles,networkpolicies"
    names = namespace.kubectl("get", made, "--selector=app.kubernetes.io/instance=trial", "-o", "name").split()
    assert {f"deployment.apps/trial-bindery-{part}" for part in SERVICES} <= set(names)
    before = namespace.kubectl("get", "secret", "trial-bindery", "-o", "jsonpath={.data}")
    trial.upgrade(**without_checks)
    assert namespace.kubectl("get", "secret", "trial-bindery", "-o", "jsonpath={.data}") == before
    trial.uninstall()
    assert namespace.kubectl("get", made, "--selector=app.kubernetes.io/instance=trial", "-o", "name") == ""
