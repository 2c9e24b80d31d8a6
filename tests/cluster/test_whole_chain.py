"""From a link to a kernel in a pod, and back to nothing: each stage on the real cluster, engine, registry and hub."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deploy.jupyterhub.labels import installation_label
from services.common.models import ServerRequest
from tests.support.api_launches import build_of, git_spec
from tests.support.cluster import BUILDS, SERVERS, Cluster, Namespace
from tests.support.engine import REGISTRY, Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import NEVER_UP, QUICK, NeverUp, run_notebook, with_notebook
from tests.support.in_process_launcher import REPO
from tests.support.leftovers import Listing, assert_no_work_is_left, delete_hub_user, until_back_to
from tests.support.polling import eventually
from tests.support.stack import Stack


@dataclass
class Chain:
    """A Bindery whose builds are Jobs of one namespace, and whose servers are pods of another."""

    stack: Stack
    builds: Namespace
    servers: Namespace

    def objects(self) -> frozenset[str]:
        """Everything in both namespaces."""
        return self.builds.everything() | self.servers.everything()

    def pod(self) -> dict[str, Any]:
        """Return the one pod of a server that there is."""
        [pod] = json.loads(self.servers.kubectl("get", "pods", "-o", "json"))["items"]
        only_pod: dict[str, Any] = pod
        return only_pod

    def start(self, launch_ref: str, image: str, digest: str | None = None) -> dict[str, Any]:
        """Ask the launcher for a server of any image, and wait for its end; the error's code and its detail."""
        request = ServerRequest(launch_ref=launch_ref, repo=REPO, image=image, digest=digest)
        with self.stack.part_client("launcher") as client:
            reply = client.post("/servers", json=request.model_dump(mode="json"))
            assert reply.status_code == 202, reply.text
            server_id = reply.json()["server_id"]
            server: dict[str, Any] = eventually(
                lambda: (now := client.get(f"/servers/{server_id}").json())["state"] == "failed" and now, "an end", 90
            )
        problem: dict[str, Any] = server["error"]
        return problem


@pytest.fixture(scope="module")
def chain(
    the_cluster: Cluster, the_engine: Engine, builder_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    with ExitStack() as resources, pytest.MonkeyPatch.context() as environ:
        builds = resources.enter_context(the_cluster.namespace(f"bindery-chain-builds-{os.getpid()}", BUILDS))
        servers = resources.enter_context(the_cluster.namespace(f"bindery-chain-servers-{os.getpid()}", SERVERS))
        environ.setenv("KUBECONFIG", str(servers.kubeconfig(folder)))
        stack = Stack(
            folder / "data",
            executor="kubernetes",
            kubernetes_config=builds.kubeconfig(folder),
            kubernetes_docker_host=the_engine.host,
            builder_image=builder_image,
            image_prefix=f"{REGISTRY}/{builds.name}/",
            registry_insecure="true",
            allowed_networks=f"{the_cluster.host}/32,127.0.0.0/8",
            servers_namespace=servers.name,
            **QUICK,
        )
        yield Chain(resources.enter_context(stack), builds, servers)


@pytest.fixture(autouse=True)
def nothing_is_left(chain: Chain) -> Iterator[None]:
    """Each test begins and ends with the same Jobs, pods, Secrets, users, seats and queue entries."""
    before = Listing.of(chain.stack)
    objects = chain.objects()
    yield
    for user in chain.stack.hub_users():
        delete_hub_user(chain.stack, user)
    until_gone(lambda: chain.objects() ^ objects, "the namespaces are as they were", 60)
    until_back_to(chain.stack, before)


def test_from_a_link_to_a_kernel_in_a_pod_and_back_to_nothing(chain: Chain, forge: Forge, the_engine: Engine) -> None:
    stack = chain.stack
    before = Listing.of(chain.stack)
    objects = chain.objects()
    repository = with_notebook(forge, "first", the_engine.jupyter)
    launch = repository.launch(stack, path="index.ipynb")
    view = run_notebook(launch, repository)
    assert {"fetching", "building", "built", "launching", "ready"} <= set(launch.stream.phases)
    assert view["expires"] > view["finished_at"]
    assert view["idle_timeout_seconds"] == 10

    build = launch.build
    pod = chain.pod()
    [container] = pod["spec"]["containers"]
    assert container["image"] == f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    labels = pod["metadata"]["labels"]
    annotations = pod["metadata"]["annotations"]
    assert labels["bindery/installation"] == installation_label(stack.installation["installation_id"])
    assert view["launch_id"] not in json.dumps(pod)
    assert view["token"] not in json.dumps(pod)
    assert (annotations["bindery/repo-url"], annotations["bindery/ref"]) == (repository.url, repository.sha)

    again = repository.launch(stack)
    assert again.until_ended()["build_id"] == view["build_id"]
    assert "building" not in again.stream.phases

    eventually(lambda: not stack.hub_users(), "the culler removes both servers", 120)
    until_gone(lambda: chain.objects() ^ objects, "the namespaces are as they were", 60)
    until_back_to(stack, before)
    assert_no_work_is_left(stack)


def test_an_image_that_has_gone_from_the_registry_is_built_again_within_the_launch(
    chain: Chain, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "gone", the_engine.jupyter)
    body = {"provider": "git", "spec": git_spec(repository.url, repository.sha)}
    build_id = chain.stack.client.post(f"{chain.stack.url}/api/v1/builds", json=body).json()["build_id"]
    build = eventually(lambda: (now := build_of(chain.stack, build_id))["state"] == "built" and now, "built", 240)
    name = build["image"].rpartition(":")[0].removeprefix(f"{REGISTRY}/")
    assert httpx.delete(f"http://{REGISTRY}/v2/{name}/manifests/{build['digest']}", trust_env=False).status_code == 202

    launch = repository.launch(chain.stack)
    view = run_notebook(launch, repository)
    assert view["build_id"] not in {build_id, None}
    assert launch.stream.phases.count("ready") == 1


@pytest.mark.parametrize("case", NEVER_UP, ids=[case.name for case in NEVER_UP])
def test_a_server_that_does_not_come_up_fails_with_a_code_of_its_own(
    chain: Chain, forge: Forge, the_engine: Engine, case: NeverUp
) -> None:
    case.check(chain.stack, forge, the_engine.jupyter)


def test_a_pod_that_no_node_has_room_for_fails_in_the_schedulers_words(
    chain: Chain, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "vast", the_engine.jupyter)
    launch = repository.launch(chain.stack, resource_class="vast")
    launch.stream.outcome(240)
    problem = launch.problem()
    assert problem["code"] == "server_unschedulable"
    assert "Insufficient memory" in problem["detail"]


def test_a_full_quota_of_the_namespace_fails_in_the_clusters_words(
    chain: Chain, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "quota", the_engine.jupyter)
    chain.servers.kubectl("create", "quota", "few", "--hard=pods=0")
    try:
        launch = repository.launch(chain.stack)
        launch.stream.outcome(240)
        problem = launch.problem()
    finally:
        chain.servers.kubectl("delete", "quota", "few")
    assert problem["code"] == "server_quota_exceeded"
    assert "exceeded quota: few" in problem["detail"]


def test_a_class_that_no_launch_may_ask_for_is_refused_before_anything_is_built(
    chain: Chain, forge: Forge, the_engine: Engine
) -> None:
    launch = with_notebook(forge, "asked", the_engine.jupyter).launch(chain.stack, resource_class="gpu")
    assert launch.problem()["code"] == "resource_class_not_offered"
    assert launch.view["build_id"] is None


@pytest.mark.parametrize(
    ("image", "digest", "code"),
    [
        (f"{REGISTRY}/nobody/nothing:1", f"sha256:{'0' * 64}", "image_pull_failed"),
        ("127.0.0.1:9/nobody/nothing:1", None, "image_pull_unreachable"),
    ],
)
def test_an_image_that_can_not_be_pulled_says_why(chain: Chain, image: str, digest: str | None, code: str) -> None:
    problem = chain.start(code, image, digest)
    assert problem["code"] == code, problem
    assert "nobody/nothing" in problem["detail"]


def test_a_hub_that_is_killed_while_a_pod_starts_costs_nobody_the_launch(
    chain: Chain, forge: Forge, the_engine: Engine
) -> None:
    repository = with_notebook(forge, "killed", the_engine.jupyter)
    run_notebook(repository.launch(chain.stack), repository)  # the image is there and known
    chain.servers.kubectl("delete", "pod", "--all", "--grace-period=0", "--force")
    eventually(lambda: not chain.servers.kubectl("get", "pods", "-o", "name"), "no pod")
    launch = repository.launch(chain.stack)
    eventually(lambda: chain.servers.kubectl("get", "pods", "-o", "name"), "its pod is there")
    pid = chain.stack.kill("hub")
    chain.stack.until_replaced("hub", pid)
    eventually(chain.stack.hub_answers, "the hub is back")
    run_notebook(launch, repository)
    assert len(chain.servers.kubectl("get", "pods", "-o", "name").split()) == 1
