"""From a link to a kernel in a pod, and back to nothing, by an installed chart: each stage a pod, and nothing faked."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.jupyterhub.labels import installation_label
from services.common.models import ServerRequest
from tests.support.api_launches import build_of, git_spec
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import NEVER_UP, QUICK_VALUES, NeverUp, run_notebook, with_notebook
from tests.support.helm_release import EXAMPLES, HelmRelease
from tests.support.in_process_launcher import REPO
from tests.support.kernels import kernel
from tests.support.leftovers import assert_no_work_is_left, work_in_progress
from tests.support.polling import eventually
from tests.support.release_objects import PARTS
from tests.support.releases import Releases


@pytest.fixture(scope="module")
def release(releases: Releases) -> Iterator[HelmRelease]:
    with releases.new(**QUICK_VALUES) as release:
        yield release.install("--values", str(EXAMPLES / "kind.yaml"))


@pytest.fixture(autouse=True)
def nothing_is_left(release: HelmRelease) -> Iterator[None]:
    """Each test begins and ends with the same Jobs, pods, Secrets, users, seats and queue entries."""
    made = release.made()
    work = work_in_progress(release)
    yield
    release.until_nobody_is_there()
    until_gone(lambda: release.made() ^ made, "the namespaces are as they were", 60)
    until_gone(lambda: work_in_progress(release) ^ work, "no work is left", 60)


def pod_of_server(release: HelmRelease) -> dict[str, Any]:
    """Return the one pod of a server that there is."""
    [pod] = release.objects("pods", namespace=release.servers)
    return pod


def test_all_pods_are_ready_and_say_so(release: HelmRelease) -> None:
    assert release.unready(*PARTS) == []
    health = release.client.get(f"{release.url}/health")
    assert health.status_code == 200, health.text
    assert release.refused_by_redis() == []


def test_from_a_link_to_a_kernel_in_a_pod_and_back_to_nothing(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    made = release.made()
    work = work_in_progress(release)
    repository = with_notebook(forge, "first", the_engine.jupyter)
    launch = repository.launch(release, path="index.ipynb")
    view = run_notebook(launch, repository)
    assert {"fetching", "building", "built", "launching", "ready"} <= set(launch.stream.phases)
    assert view["expires"] > view["finished_at"]
    assert view["idle_timeout_seconds"] == 10

    build = launch.build
    pod = pod_of_server(release)
    [container] = pod["spec"]["containers"]
    assert container["image"] == f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    labels = pod["metadata"]["labels"]
    annotations = pod["metadata"]["annotations"]
    assert labels["bindery/installation"] == installation_label(release.installation["installation_id"])
    assert view["launch_id"] not in json.dumps(pod)
    assert view["token"] not in json.dumps(pod)
    assert (annotations["bindery/repo-url"], annotations["bindery/ref"]) == (repository.url, repository.sha)

    again = repository.launch(release)
    assert again.until_ended()["build_id"] == view["build_id"]
    assert "building" not in again.stream.phases

    eventually(lambda: not release.hub_users(), "the culler removes both servers", 120)
    until_gone(lambda: release.made() ^ made, "the namespaces are as they were", 60)
    until_gone(lambda: work_in_progress(release) ^ work, "the launcher has seen it", 60)
    assert_no_work_is_left(release)
    answer = release.client.get(view["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (424, "application/problem+json")
    assert release.refused_by_redis() == []


def test_an_image_that_has_gone_from_the_registry_is_built_again_within_the_launch(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "gone", the_engine.jupyter)
    body = {"provider": "git", "spec": git_spec(repository.url, repository.sha)}
    build_id = release.client.post(f"{release.url}/api/v1/builds", json=body).json()["build_id"]
    build = eventually(lambda: (now := build_of(release, build_id))["state"] == "built" and now, "built", 240)
    name = build["image"].rpartition(":")[0].partition("/")[2]
    manifest = f"http://127.0.0.1:{release.registry_port}/v2/{name}/manifests/{build['digest']}"
    assert httpx.delete(manifest, trust_env=False).status_code == 202

    launch = repository.launch(release)
    view = run_notebook(launch, repository)
    assert view["build_id"] not in {build_id, None}
    assert launch.stream.phases.count("ready") == 1


@pytest.mark.parametrize("case", NEVER_UP, ids=[case.name for case in NEVER_UP])
def test_a_server_that_does_not_come_up_fails_with_a_code_of_its_own(
    release: HelmRelease, forge: Forge, the_engine: Engine, case: NeverUp
) -> None:
    case.check(release, forge, the_engine.jupyter)


def test_a_pod_that_no_node_has_room_for_fails_in_the_schedulers_words(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "vast", the_engine.jupyter)
    launch = repository.launch(release, resource_class="vast")
    launch.stream.outcome(240)
    problem = launch.problem()
    assert problem["code"] == "server_unschedulable"
    assert "Insufficient memory" in problem["detail"]


def test_a_full_quota_of_the_namespace_fails_in_the_clusters_words(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "quota", the_engine.jupyter)
    release.kubectl("create", "quota", "few", "--hard=pods=0", namespace=release.servers)
    try:
        launch = repository.launch(release)
        launch.stream.outcome(240)
        problem = launch.problem()
    finally:
        release.kubectl("delete", "quota", "few", namespace=release.servers)
    assert problem["code"] == "server_quota_exceeded"
    assert "exceeded quota: few" in problem["detail"]


def test_a_class_that_no_launch_may_ask_for_is_refused_before_anything_is_built(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    launch = with_notebook(forge, "asked", the_engine.jupyter).launch(release, resource_class="gpu")
    assert launch.problem()["code"] == "resource_class_not_offered"
    assert launch.view["build_id"] is None


@pytest.mark.parametrize(
    ("image", "digest", "code"),
    [
        ("127.0.0.1:{registry}/nobody/nothing:1", f"sha256:{'0' * 64}", "image_pull_failed"),
        ("127.0.0.1:9/nobody/nothing:1", None, "image_pull_unreachable"),
    ],
)
def test_an_image_that_can_not_be_pulled_says_why(
    release: HelmRelease, image: str, digest: str | None, code: str
) -> None:
    name = image.format(registry=release.registry_port)
    request = ServerRequest(launch_ref=code, repo=REPO, image=name, digest=digest)
    with release.part_client("launcher") as client:
        reply = client.post("/servers", json=request.model_dump(mode="json"))
        assert reply.status_code == 202, reply.text
        address = f"/servers/{reply.json()['server_id']}"
        server = eventually(lambda: (now := client.get(address).json())["state"] == "failed" and now, "an end", 90)
    assert server["error"]["code"] == code, server
    assert "nobody/nothing" in server["error"]["detail"]


def test_a_hub_that_is_killed_while_a_pod_starts_costs_nobody_the_launch_or_the_server(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "killed", the_engine.jupyter)
    before = run_notebook(repository.launch(release), repository)  # the image is there and known
    with kernel(before["url"], before["token"], "index.ipynb"):  # an open websocket is use: the server is not culled
        launch = repository.launch(release)
        eventually(lambda: len(release.objects("pods", namespace=release.servers)) == 2, "its pod is there")
        release.kubectl("delete", "pod", f"{release.name}-hub-0", "--grace-period=0", "--force")
        assert release.unready("gateway") == []
        with kernel(before["url"], before["token"], "index.ipynb") as running_kernel:
            assert running_kernel.run("print(6 * 7)") == "42\n"  # browsers reach servers while there is no hub
        run_notebook(launch, repository)
        assert len(release.objects("pods", namespace=release.servers)) == 2
