"""A real hub starts servers as containers: they get what the launch asks for, and obstacles are reported."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.jupyterhub.labels import installation_label
from tests.support.engine import REGISTRY, Engine
from tests.support.kernels import kernel
from tests.support.polling import eventually
from tests.support.real_hub import HubStack

OPTIONS = {
    "repo_url": "https://example.org/{team}/r",
    "binder_ref_url": "https://example.org/team/r/tree/abc",
    "binder_request": "v2/git/x",
    "bindery_installation": "of the test of DockerSpawner",
    "bindery_launch_ref": "0123456789abcdef",
    "bindery_ref": "abc",
}
INSTALLATION = installation_label(OPTIONS["bindery_installation"])


@pytest.fixture(scope="module")
def hub(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStack]:
    folder = tmp_path_factory.mktemp("dockerspawner")
    config = folder / "own.py"
    # A server that runs and serves nobody, for the one test that asks for it.
    config.write_text(
        "def hook(spawner):\n"
        "    if spawner.user_options.get('binder_request') == 'silent':\n"
        "        spawner.cmd = ['sh', '-c', 'trap exit TERM; sleep 1000 & wait']\n"
        "c.BinderDockerSpawner.pre_spawn_hook = hook\n"
        "c.BinderDockerSpawner.http_timeout = 5\n"  # for which a hub that starts waits for such a server
    )
    hub = HubStack(
        folder / "hub",
        BINDERY_SPAWNER="docker",
        BINDERY_DOCKER_HOST=docker.host,
        BINDERY_HUB_CONFIG_FILE=str(config),
    )
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def containers(docker: Engine) -> list[dict[str, Any]]:
    """Return every container that this file's launches have in the engine, running or not."""
    container_ids = docker.docker(
        "ps", "--all", "--quiet", "--filter", f"label=bindery/installation={INSTALLATION}"
    ).split()
    inspections: list[dict[str, Any]] = json.loads(docker.docker("inspect", *container_ids)) if container_ids else []
    return inspections


def remove(hub: HubStack, user: str) -> None:
    """Stop a user's server, if it has one, and delete the user."""
    statuses = {204, 404}  # a start that is under way is ended by its own address alone
    eventually(lambda: hub.call("DELETE", f"users/{user}/server").status_code in statuses, f"{user} has no server")
    eventually(lambda: hub.call("DELETE", f"users/{user}").status_code in statuses, f"{user} is deleted")


@pytest.fixture(autouse=True)
def nothing_is_left(docker: Engine, hub: HubStack) -> Iterator[None]:
    """After each test there is no user and no container."""
    yield
    for user in hub.call("GET", "users").json():
        remove(hub, user["name"])
    eventually(lambda: containers(docker) == [], "no container is left", seconds=60)


def test_a_container_is_what_its_launch_says_and_its_kernel_runs_code(hub: HubStack, docker: Engine) -> None:
    resources = {"memory_guarantee": 64 << 20, "memory_limit": 512 << 20, "cpu_guarantee": 0.5, "cpu_limit": 1.0}
    hub.serve("ann", docker.jupyter, **OPTIONS, bindery_resources=resources)
    with kernel(f"{hub.url}/user/ann/", "token-of-ann", "a.ipynb") as running_kernel:
        assert running_kernel.run("print(6 * 7)").strip() == "42"
        environment = json.loads(running_kernel.run("import json, os; print(json.dumps(dict(os.environ)))"))
        assert (
            running_kernel.run("print(open('/proc/self/status').read())").split("CapBnd:")[1].split()[0].strip("0")
            == ""
        )
    assert environment["BINDER_REPO_URL"] == OPTIONS["repo_url"]
    assert environment["BINDER_REF_URL"] == OPTIONS["binder_ref_url"]
    assert environment["BINDER_REQUEST"] == OPTIONS["binder_request"]
    assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/ann/"
    assert environment["JUPYTERHUB_USER"] == "ann"
    assert not {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"} & environment.keys()
    assert environment["MEM_LIMIT"] == str(512 << 20)

    [container] = containers(docker)
    labels = container["Config"]["Labels"]
    host = container["HostConfig"]
    assert container["Config"]["Image"] == docker.jupyter
    assert labels["bindery/launch"] == OPTIONS["bindery_launch_ref"]
    assert labels["bindery/repo-url"] == OPTIONS["repo_url"]
    assert (labels["bindery/ref"], labels["bindery/ref-url"]) == ("abc", OPTIONS["binder_ref_url"])
    assert (host["Memory"], host["MemoryReservation"]) == (512 << 20, 64 << 20)
    assert (host["CpuQuota"] / host["CpuPeriod"], host["CpuShares"]) == (1.0, 512)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert (host["CapDrop"], host["PidsLimit"]) == (["ALL"], 4096)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}
    assert "token-of-ann" not in json.dumps([container["Path"], container["Args"], labels])
    assert httpx.get(f"{hub.url}/user/ann/api/status", trust_env=False).status_code == 403
    for origin, is_allowed in (("https://a.example", True), ("https://evil.example", False)):
        answer = httpx.options(
            f"{hub.url}/user/ann/api?token=token-of-ann", headers={"Origin": origin}, trust_env=False
        )
        assert (answer.headers.get("access-control-allow-origin") == origin) is is_allowed

    assert hub.call("DELETE", "users/ann/server").status_code in (202, 204)
    eventually(lambda: containers(docker) == [], "the container is gone", seconds=60)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (f"{REGISTRY}/nobody/nothing:1", f"Failed to pull image {REGISTRY}/nobody/nothing:1: "),
        (f"{REGISTRY}/nobody/nothing@sha256:{'0' * 64}", "not found"),
    ],
)
def test_an_image_that_is_nowhere_is_told(hub: HubStack, image: str, words: str) -> None:
    message = hub.failure_of_server("bob", image=image, token="t", **OPTIONS)
    assert words in message
    assert "not found" in message


def test_a_killed_hub_finds_its_container_again(hub: HubStack, docker: Engine) -> None:
    hub.serve("cleo", docker.jupyter, **OPTIONS)
    [before] = containers(docker)
    hub.kill_hub()
    address = f"{hub.url}/user/cleo/api/status?token=token-of-cleo"
    assert httpx.get(address, trust_env=False).status_code == 200  # the server does not need the hub
    hub.start_hub()
    eventually(lambda: (hub.server("cleo") or {}).get("ready"), "the hub knows its server")
    assert [container["Id"] for container in containers(docker)] == [before["Id"]]
    assert httpx.get(address, trust_env=False).status_code == 200


def test_objects_of_a_start_that_a_dead_hub_left_go_with_its_user(hub: HubStack, docker: Engine) -> None:
    options = OPTIONS | {"binder_request": "silent"}
    assert hub.request_server("dan", image=docker.jupyter, token="t", **options).status_code in (201, 202)
    eventually(lambda: any(container["State"]["Running"] for container in containers(docker)), "its container runs")
    hub.kill_hub()
    hub.start_hub()
    remove(hub, "dan")
    eventually(lambda: containers(docker) == [], "the container is gone", seconds=60)


def test_a_container_that_is_removed_is_noticed(hub: HubStack, docker: Engine) -> None:
    hub.serve("eve", docker.jupyter, **OPTIONS)
    docker.docker("rm", "--force", containers(docker)[0]["Id"])
    eventually(lambda: hub.server("eve") is None, "the hub has noticed")
