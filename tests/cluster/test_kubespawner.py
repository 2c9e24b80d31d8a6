"""A real hub starts servers as pods: what a launch says is in them, and what is in their way is told."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.jupyterhub.labels import installation_label
from tests.support.cluster import SERVERS, Cluster, Namespace
from tests.support.engine import REGISTRY
from tests.support.kernels import kernel
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.real_hub import HubStack

RECORDED = CHECKOUT / "tests" / "support" / "spawner_messages"
OWNER = "bindery"
OPTIONS = {
    "repo_url": "https://example.org/{team}/$(JUPYTER_TOKEN)/$$r",  # which the kubelet would replace
    "binder_ref_url": "https://example.org/team/r/tree/abc",
    "binder_request": "v2/git/x",
    "bindery_installation": "any id: may be one",
    "bindery_launch_ref": "0123456789abcdef",
    "bindery_ref": "abc",
}


class Servers:
    """A namespace of its own, and the hub that starts pods there with the rights of deploy/kubernetes/hub.yaml."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.cluster = namespace.cluster
        self.kubectl = namespace.kubectl
        self.namespace = namespace.name
        self.owner_uid = namespace.make_owner(OWNER)
        config = folder / "own.py"
        # A server that runs and serves nobody, for the one test that asks for it.
        config.write_text(
            "def hook(spawner):\n"
            "    if spawner.user_options.get('binder_request') == 'silent':\n"
            "        spawner.cmd = ['sh', '-c', 'exec sleep 1000']\n"
            "c.BinderKubeSpawner.pre_spawn_hook = hook\n"
            "c.BinderKubeSpawner.http_timeout = 5\n"  # for which a hub that starts waits for such a server
            "c.BinderKubeSpawner.delete_grace_period = 1\n"
            "c.BinderKubeSpawner.owner_remembered_seconds = 0\n"
        )
        self.hub = HubStack(
            folder / "hub",
            BINDERY_SPAWNER="kubernetes",
            BINDERY_SERVERS_NAMESPACE=namespace.name,
            BINDERY_SERVERS_OWNER=OWNER,
            BINDERY_HUB_LISTEN_HOST=self.cluster.host,
            BINDERY_HUB_CONFIG_FILE=str(config),
            KUBECONFIG=str(namespace.kubeconfig(folder)),
        )

    def objects(self) -> list[str]:
        """Return the names of all pods and Secrets."""
        return sorted(self.kubectl("get", "pods,secrets", "-o", "name").split())

    def pod(self) -> dict[str, Any]:
        """Return the one pod that there is."""
        [pod_object] = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        pod: dict[str, Any] = pod_object
        return pod

    def remove(self, user: str) -> None:
        """Stop a user's server, if it has one, and delete the user."""
        statuses = {204, 404}  # a start that is under way is ended by its own address alone
        eventually(
            lambda: self.hub.call("DELETE", f"users/{user}/server").status_code in statuses, f"{user} has no server"
        )
        eventually(lambda: self.hub.call("DELETE", f"users/{user}").status_code in statuses, f"{user} is deleted")

    def messages(self, user: str, image: str, enough: str, **options: object) -> list[str]:
        """Return the messages of a start's progress, up to the message that has `enough` in it."""
        options = {"token": "t", **OPTIONS, **options}
        assert self.hub.call("POST", f"users/{user}").status_code == 201
        texts: list[str] = []

        def has_progress() -> bool:  # while a hub ends a start that failed at once, it tells nothing of it
            answer = self.hub.call("POST", f"users/{user}/server", json={"image": image, **options})
            if answer.status_code == 400 and "pending" in answer.text:
                return False
            assert answer.status_code in (201, 202, 500), answer.text  # 500: it failed before the hub had answered
            for event in self.hub.progress(user):
                texts.append(event["message"])
                if enough in event["message"]:
                    break
            return bool(texts)

        eventually(has_progress, f"a hub that tells of the start of {user}")
        assert enough in texts[-1], texts
        return texts


@pytest.fixture(scope="module")
def servers(the_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with the_cluster.namespace(f"bindery-servers-{os.getpid()}", SERVERS) as namespace:
        own_servers = Servers(namespace, tmp_path_factory.mktemp("kubespawner"))
        try:
            own_servers.hub.start()
            yield own_servers
        finally:
            own_servers.hub.stop()


@pytest.fixture(autouse=True)
def nothing_is_left(servers: Servers) -> Iterator[None]:
    """After each test there is no user, no pod and no Secret."""
    yield
    for user in servers.hub.call("GET", "users").json():
        servers.remove(user["name"])
    eventually(lambda: servers.objects() == [], "no pod and no Secret is left", seconds=60)


def record_messages(name: str, messages: list[str]) -> None:
    """Keep what was told, where BINDERY_TEST_RECORD is set: tests of what it means read it."""
    if os.environ.get("BINDERY_TEST_RECORD"):
        RECORDED.mkdir(exist_ok=True)
        (RECORDED / f"{name}.json").write_text(json.dumps(messages, indent=1) + "\n")


def test_a_pod_is_what_its_launch_says_and_its_kernel_runs_code(servers: Servers, image: str) -> None:
    resources = {"memory_guarantee": 64 << 20, "memory_limit": 512 << 20, "cpu_guarantee": 0.05, "cpu_limit": 1.0}
    events = servers.hub.launch("ann", image, **OPTIONS, bindery_resources=resources)
    assert events[-1].get("ready"), events
    record_messages("kubernetes-ready", [event["message"] for event in events])
    with kernel(f"{servers.hub.url}/user/ann/", "token-of-ann", "a.ipynb") as running_kernel:
        assert running_kernel.run("print(6 * 7)").strip() == "42"
        environment = json.loads(running_kernel.run("import json, os; print(json.dumps(dict(os.environ)))"))
        assert (
            running_kernel.run("print(open('/proc/self/status').read())").split("CapBnd:")[1].split()[0].strip("0")
            == ""
        )
    assert environment["BINDER_REPO_URL"] == OPTIONS["repo_url"]
    assert environment["BINDER_REF_URL"] == OPTIONS["binder_ref_url"]
    assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/ann/"
    assert not {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"} & environment.keys()
    assert environment["JUPYTERHUB_API_URL"].startswith(f"http://{servers.cluster.host}:")
    assert environment["MEM_LIMIT"] == str(512 << 20)

    pod = servers.pod()
    labels = pod["metadata"]["labels"]
    annotations = pod["metadata"]["annotations"]
    spec = pod["spec"]
    assert labels["bindery/installation"] == installation_label(OPTIONS["bindery_installation"])
    assert labels["bindery/launch"] == OPTIONS["bindery_launch_ref"]
    assert labels["component"] == "singleuser-server"
    assert annotations["bindery/repo-url"] == OPTIONS["repo_url"]
    assert annotations["bindery/ref"] == "abc"
    [container] = spec["containers"]
    assert container["image"] == image
    assert "@sha256:" in image
    assert container["resources"] == {
        "limits": {"cpu": "1", "memory": str(512 << 20)}, "requests": {"cpu": "50m", "memory": str(64 << 20)},
    }  # fmt: skip
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert (spec["restartPolicy"], spec["enableServiceLinks"]) == ("Never", False)
    assert spec["automountServiceAccountToken"] is False
    text = json.dumps(pod)
    assert "token-of-ann" not in text
    assert httpx.get(f"{servers.hub.url}/user/ann/api/status", trust_env=False).status_code == 403


def test_stopping_a_server_removes_its_pod_and_its_secret(servers: Servers, image: str) -> None:
    servers.hub.serve("bob", image, **OPTIONS)
    assert [name.partition("/")[0] for name in servers.objects()] == ["pod", "secret"]
    assert servers.hub.call("DELETE", "users/bob/server").status_code in (202, 204)
    eventually(lambda: servers.objects() == [], "pod and Secret are gone", seconds=60)


def test_a_pod_that_is_deleted_is_noticed_and_leaves_no_secret(servers: Servers, image: str) -> None:
    servers.hub.serve("cleo", image, **OPTIONS)
    servers.kubectl("delete", "pod", servers.pod()["metadata"]["name"], "--grace-period=0", "--force")
    eventually(lambda: servers.hub.server("cleo") is None, "the hub has noticed")
    eventually(lambda: servers.objects() == [], "its Secret is gone")


def test_pod_and_secret_go_with_their_owner_without_which_a_start_fails_in_one_sentence(
    servers: Servers, image: str
) -> None:
    servers.hub.serve("ned", image, **OPTIONS)
    for name in servers.objects():
        [owner] = json.loads(servers.kubectl("get", name, "-o", "jsonpath={.metadata.ownerReferences}"))
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", OWNER, servers.owner_uid)
    servers.kubectl("delete", "configmap", OWNER)
    try:
        eventually(lambda: servers.objects() == [], "pod and Secret are gone", seconds=60)
        eventually(lambda: servers.hub.server("ned") is None, "the hub has noticed")
        [told] = servers.messages("otto", image, "ConfigMap")[-1:]
        assert told.startswith(f"Spawn failed: The ConfigMap {OWNER} in {servers.namespace}, to which servers belong, ")
        assert servers.objects() == []
    finally:
        servers.owner_uid = servers.kubectl("create", "configmap", OWNER, "-o", "jsonpath={.metadata.uid}")


def test_a_killed_hub_finds_its_pod_again(servers: Servers, image: str) -> None:
    servers.hub.serve("dan", image, **OPTIONS)
    before = servers.pod()["metadata"]["uid"]
    servers.hub.kill_hub()
    servers.hub.start_hub()
    eventually(lambda: (servers.hub.server("dan") or {}).get("ready"), "the hub knows its server")
    assert servers.pod()["metadata"]["uid"] == before
    answer = httpx.get(f"{servers.hub.url}/user/dan/api/status?token=token-of-dan", trust_env=False)
    assert answer.status_code == 200


def test_what_a_hub_that_died_in_mid_start_made_goes_with_its_user(servers: Servers, image: str) -> None:
    servers.messages("eve", image, "Started container", binder_request="silent")
    assert len(servers.objects()) == 2
    servers.hub.kill_hub()
    servers.hub.start_hub()
    servers.remove("eve")
    eventually(lambda: servers.objects() == [], "pod and Secret are gone", seconds=60)


def test_a_pod_and_a_secret_that_have_the_servers_name_already_give_way_to_its_own(
    servers: Servers, image: str
) -> None:
    # What a start leaves whose hub was killed, or whose request came through after its time.
    name = "jupyter-lou"
    label = "--labels=component=singleuser-server"
    servers.kubectl("create", "secret", "generic", name, "--from-literal=JUPYTER_TOKEN=of-an-earlier-start")
    servers.kubectl("run", name, f"--image={image}", label, "--restart=Never", "--command", "--", "sleep", "1000")
    before = servers.pod()["metadata"]["uid"]
    servers.hub.serve("lou", image, **OPTIONS)
    assert servers.objects() == [f"pod/{name}", f"secret/{name}"]
    assert servers.pod()["metadata"]["uid"] != before
    answer = httpx.get(f"{servers.hub.url}/user/lou/api/status?token=token-of-lou", trust_env=False)
    assert answer.status_code == 200


def test_an_image_that_does_not_exist_is_told(servers: Servers) -> None:
    messages = servers.messages("fay", f"{REGISTRY}/nobody/nothing@sha256:{'0' * 64}", "ErrImagePull")
    assert any("not found" in message for message in messages), messages
    record_messages("kubernetes-image-not-found", messages)


def test_a_pod_that_finds_no_room_is_told(servers: Servers, image: str) -> None:
    messages = servers.messages("gus", image, "nodes are available", bindery_resources={"memory_guarantee": 1 << 50})
    record_messages("kubernetes-unschedulable", messages)


def test_a_server_that_ends_at_once_fails_at_once_with_its_last_lines(servers: Servers, builder_image: str) -> None:
    messages = servers.messages("hal", builder_image, "exit status")
    assert "The server ended with exit status 127 before it answered." in messages[-1]
    assert "The image has no jupyter-lab" in messages[-1]
    record_messages("kubernetes-ended", messages)


def test_a_server_that_runs_out_of_memory_as_it_starts_is_said_so(servers: Servers, image: str) -> None:
    messages = servers.messages("ida", image, "exit status", bindery_resources={"memory_limit": 16 << 20})
    assert "The server ended with exit status 137 (OOMKilled)" in messages[-1]
    record_messages("kubernetes-out-of-memory", messages)


def test_a_quota_that_is_full_is_told_in_the_clusters_words(servers: Servers, image: str) -> None:
    servers.kubectl("create", "quota", "few", "--hard=pods=0")
    try:
        messages = servers.messages("jan", image, "exceeded quota")
        assert messages[-1].startswith("Spawn failed: Kubernetes refused the pod: pods ")
        record_messages("kubernetes-quota", messages)
    finally:
        servers.kubectl("delete", "quota", "few")


def test_a_port_that_never_opens_is_told_in_time(servers: Servers, image: str) -> None:
    config = Path(servers.hub.env["BINDERY_HUB_CONFIG_FILE"])
    before = config.read_text()
    config.write_text(f"{before}c.BinderKubeSpawner.answer_timeout_seconds = 3\n")
    with contextlib.ExitStack() as stack:
        stack.callback(servers.hub.start_hub)
        stack.callback(servers.hub.kill_hub)
        stack.callback(config.write_text, before)
        servers.hub.kill_hub()
        servers.hub.start_hub()
        messages = servers.messages("kim", image, "didn't respond", binder_request="silent")
        assert "didn't respond in 3 seconds" in messages[-1]
        record_messages("kubernetes-port-closed", messages)
        servers.remove("kim")
