"""Nodes that are drained, a rollback and the removal of a release: what an operator does to one that runs."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api_launches import build_of, git_spec
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import Repository, run_notebook, with_notebook
from tests.support.helm_release import CHART, EXAMPLES, HelmRelease
from tests.support.installed import SERVICES
from tests.support.page_commands import commands, section
from tests.support.polling import eventually
from tests.support.release_objects import PARTS
from tests.support.releases import Releases

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
TWO: dict[str, Any] = {"replicas": 2}
VALUES: dict[str, Any] = dict.fromkeys(SERVICES, TWO) | {"servers": {"idleTimeoutSeconds": 3600}}


@pytest.fixture(scope="module")
def release(releases: Releases) -> Iterator[HelmRelease]:
    """A release whose builds are in a namespace that was there before, and its servers in one that the chart makes."""
    with releases.new(**VALUES) as release:
        release.change({"builds": {"namespace": {"name": release.builds, "create": False}}})
        release.cluster.kubectl("create", "namespace", release.builds)
        yield release.install("--values", str(EXAMPLES / "kind.yaml"))


@pytest.fixture(autouse=True)
def nobody_is_there(release: HelmRelease) -> None:
    """Each test begins without servers: examples/kind.yaml has room for few."""
    release.until_ready("hub")
    release.until_nobody_is_there()


@pytest.fixture
def repository(forge: Forge, the_engine: Engine) -> Repository:
    return with_notebook(forge, "operated", the_engine.jupyter)


def evict(release: HelmRelease, pod: str) -> str:
    """Ask for a pod's eviction, as a drain does; return what the API server says."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": release.namespace}}
    address = f"/api/v1/namespaces/{release.namespace}/pods/{pod}/eviction"
    return release.kubectl("create", "--raw", address, "-f", "-", stdin=json.dumps(body))


def test_pods_that_are_evicted_one_by_one_all_come_back(release: HelmRelease, repository: Repository) -> None:
    before = run_notebook(repository.launch(release), repository)
    for part in PARTS:
        for pod in release.pods(part):
            evict(release, pod["metadata"]["name"])
            until_evicted(release, part, pod["metadata"]["uid"])
            release.until_ready(part)
        assert release.client.get(f"{release.url}/versions").status_code == 200
    answer = release.client.get(f"{before['url']}api", params={"token": before["token"]})
    assert answer.json()["version"], "the server of before is reached still"
    run_notebook(repository.launch(release), repository)
    assert release.refused_by_redis() == []


def until_evicted(release: HelmRelease, part: str, uid: str) -> None:
    eventually(lambda: uid not in {pod["metadata"]["uid"] for pod in release.pods(part)}, f"{part} is evicted", 90)


@pytest.mark.usefixtures("own_cluster")
@pytest.mark.parametrize("part", SERVICES)
def test_a_drain_waits_for_the_second_pod_while_the_first_has_no_successor(release: HelmRelease, part: str) -> None:
    [node] = json.loads(release.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    name = node["metadata"]["name"]
    release.until_ready(part)
    try:
        selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component={part}"
        said = release.cluster.refusal_of(
            "drain", name, "--pod-selector", selector, "--delete-emptydir-data", "--timeout=15s"
        )
        assert "Cannot evict pod as it would violate the pod's disruption budget" in said
        assert len([pod for pod in release.pods(part) if "nodeName" in pod["spec"]]) >= 1
    finally:
        release.cluster.kubectl("uncordon", name)
    release.until_ready(part)


@pytest.mark.usefixtures("own_cluster")
def test_the_pages_drain_is_for_nodes_with_servers_on_them(release: HelmRelease, repository: Repository) -> None:
    run_notebook(repository.launch(release), repository)
    [node] = json.loads(release.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    [options] = re.findall(r"`kubectl drain NODE\s([^`]+)`", section("helm.md", "## Upgrading"))
    said = release.cluster.kubectl("drain", node["metadata"]["name"], *options.split(), "--dry-run=server")
    [server] = release.objects("pods", namespace=release.servers)
    assert f"evicting pod {release.servers}/{server['metadata']['name']} (server dry run)" in said


def test_a_registry_that_the_pages_commands_empty_is_filled_again(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "emptied", the_engine.jupyter)
    body = {"provider": "git", "spec": git_spec(repository.url, repository.sha)}
    build_id = release.client.post(f"{release.url}/api/v1/builds", json=body).json()["build_id"]
    eventually(lambda: build_of(release, build_id)["state"] == "built", "its image is there, and on no node", 240)
    for command in commands(section("helm.md", "## The registry")):
        words = shlex.split(command.removeprefix("kubectl --namespace bindery "))
        release.kubectl(*(word.replace("bindery", release.name) for word in words))
    release.until_ready("registry")
    view = run_notebook(repository.launch(release), repository)
    assert view["build_id"] not in {build_id, None}


def test_a_rollback_brings_back_what_was_before(release: HelmRelease, repository: Repository) -> None:
    secret = release.secret
    before = {part: images_of(release, part) for part in PARTS}
    settings = settings_of_the_gateway(release)
    release.upgrade(gateway={"extraConfig": {"abandoned_seconds": 77}}, servers={"total": 3})
    assert settings_of_the_gateway(release) != settings
    release.helm("rollback", release.name, "--wait", "--timeout=240s")
    assert settings_of_the_gateway(release) == settings
    assert {part: images_of(release, part) for part in PARTS} == before
    assert release.read_secret() == secret, "secrets are kept over upgrade and rollback"
    run_notebook(repository.launch(release), repository)


def test_a_rollback_mends_an_upgrade_whose_hub_never_starts(release: HelmRelease, repository: Repository) -> None:
    values = release.values_file(hub={"image": "127.0.0.1:9/nobody/nothing:1"})
    release.helm("upgrade", release.name, str(CHART), "--values", str(EXAMPLES / "kind.yaml"), "--values", str(values))
    eventually(lambda: waiting_for(release, "hub") & {"ErrImagePull", "ImagePullBackOff"}, "the hub can't start", 90)
    release.helm("rollback", release.name, "--wait", "--timeout=240s")
    release.until_ready("hub")
    run_notebook(repository.launch(release), repository)


def waiting_for(release: HelmRelease, part: str) -> set[str]:
    """Return the reasons for which containers of a part have not started."""
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [status for pod in release.pods(part) for kind in kinds for status in pod["status"].get(kind, [])]
    return {status["state"].get("waiting", {}).get("reason", "") for status in statuses}


def images_of(release: HelmRelease, part: str) -> set[str]:
    return {container["image"] for pod in release.pods(part) for container in pod["spec"]["containers"]}


def settings_of_the_gateway(release: HelmRelease) -> str:
    return release.kubectl("get", "configmap", f"{release.name}-settings", "-o", r"jsonpath={.data.gateway\.yaml}")


def test_a_removal_leaves_the_volumes_that_it_names_alone(
    release: HelmRelease, repository: Repository, forge: Forge, the_engine: Engine
) -> None:
    run_notebook(repository.launch(release), repository)
    slow = with_notebook(forge, "slow", the_engine.jupyter, "RUN sleep 300")
    building = f"bindery/build-id={slow.launch(release).until('building')['build_id']}"
    eventually(lambda: release.objects("pods", namespace=release.builds, selector=building), "a build runs", 60)
    notes = release.helm("get", "notes", release.name)
    claims = {f"persistentvolumeclaim/data-{release.name}-{part}-0" for part in ("redis", "hub", "registry")}
    assert {line.strip() for line in notes.splitlines() if "persistentvolumeclaim/" in line} == claims

    release.uninstall()
    eventually(lambda: release.everything(release.namespace) == claims, "nothing else is left", 120)
    eventually(lambda: not release.everything(release.builds), "builds' objects go with their owner", 60)
    eventually(lambda: not release.cluster.has("namespace", release.servers), "the servers' namespace is gone", 120)
    cluster_wide = release.cluster.kubectl(
        "get", "priorityclasses,clusterroles,clusterrolebindings", "-l", f"app.kubernetes.io/instance={release.name}",
        "-o", "name",
    )  # fmt: skip
    assert cluster_wide == ""
