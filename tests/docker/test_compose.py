"""docker-compose.yml, from a clean checkout: a launch ends in a kernel, and what is kept stays over down and up."""

import contextlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docker.compose import Chain, listening_ports, until_nothing_runs
from tests.support.api_launches import log_of
from tests.support.compose_stack import SERVICES, ComposeStack
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import NEVER_UP, NeverUp, run_notebook, with_notebook
from tests.support.kernels import kernel
from tests.support.leftovers import assert_no_work_is_left, work_in_progress
from tests.support.polling import eventually
from tests.support.stack_builds import StackBuilder

pytestmark = pytest.mark.timeout(900)  # of which making the images takes most, the first time
BUILDS = 20
WORKERS = 3


@pytest.fixture(scope="module")
def stack(compose: Chain) -> Iterator[ComposeStack]:
    with compose.stack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def nothing_is_left(stack: ComposeStack) -> Iterator[None]:
    """Each test begins and ends with the same containers, users, seats and queue entries."""
    before = stack.objects()
    work_before = work_in_progress(stack)
    yield
    until_nothing_runs(stack)
    until_gone(lambda: stack.objects() ^ before, "it has the containers that it had", 60)
    until_gone(lambda: work_in_progress(stack) ^ work_before, "no work is left", 60)


def test_from_a_link_to_a_kernel_in_a_container_and_back_to_nothing(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    before = stack.objects()
    work_before = work_in_progress(stack)
    repository = with_notebook(bridge_forge, "first", docker.jupyter)
    launch = repository.launch(stack, path="index.ipynb")
    view = run_notebook(launch, repository)
    build = launch.build

    [container] = stack.started_containers()
    assert container["Config"]["Image"] == f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    assert container["Config"]["Labels"]["bindery/repo-url"] == repository.url
    assert container["Config"]["Labels"]["bindery/ref"] == repository.sha
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert view["launch_id"] not in json.dumps(container)
    assert view["token"] not in json.dumps(container["Args"])

    again = repository.launch(stack)
    assert again.until_ended()["build_id"] == view["build_id"]
    eventually(lambda: not stack.hub_users(), "the culler removes both servers", 120)
    until_gone(lambda: stack.objects() ^ before, "it has the containers that it had", 60)
    until_gone(lambda: work_in_progress(stack) ^ work_before, "the launcher has seen it", 60)
    assert_no_work_is_left(stack)
    answer = stack.client.get(view["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (424, "application/problem+json")


@pytest.mark.parametrize("case", NEVER_UP, ids=[case.name for case in NEVER_UP])
def test_a_server_that_does_not_come_up_fails_with_a_code_of_its_own(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge, case: NeverUp
) -> None:
    case.check(stack, bridge_forge, docker.jupyter)


def test_an_image_that_has_gone_from_engine_and_registry_is_built_again_within_the_launch(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    repository = with_notebook(bridge_forge, "gone", docker.jupyter)
    first = repository.launch(stack)
    run_notebook(first, repository)
    until_nothing_runs(stack)
    build = first.build
    name = build["image"].rpartition(":")[0]
    answer = stack.client.delete(f"{stack.registry_url}/v2/{name.partition('/')[2]}/manifests/{build['digest']}")
    assert answer.status_code == 202, answer.text
    remove_images(docker, name)

    second = repository.launch(stack)
    assert run_notebook(second, repository)["build_id"] != build["build_id"]


def remove_images(docker: Engine, name: str) -> None:
    """Remove the images with a name from the engine."""
    docker.docker("rmi", "--force", *set(docker.docker("images", "--quiet", name).split()))


def test_a_hub_that_is_killed_finds_its_containers_again(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    repository = with_notebook(bridge_forge, "killed", docker.jupyter)
    view = run_notebook(repository.launch(stack), repository)
    servers = [container["Id"] for container in stack.started_containers()]
    stack.kill("jupyterhub")
    assert stack.client.get(f"{view['url']}api", params={"token": view["token"]}).json()["version"]
    stack.until_healthy("jupyterhub")
    assert stack.hub_users()
    assert stack.client.get(f"{view['url']}api", params={"token": view["token"]}).json()["version"]
    assert [container["Id"] for container in stack.started_containers()] == servers


def test_three_workers_build_twenty_repositories_each_of_them_once(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge, tmp_path: Path
) -> None:
    stack.up("--scale", f"builder-worker={WORKERS}", "--no-recreate")
    created = tmp_path / "created"
    command = [
        "docker", "events", "--filter", "event=create", "--filter", "label=bindery.execution",
        "--format", '{{index .Actor.Attributes "bindery.execution"}}',
    ]  # fmt: skip
    with created.open("w") as file:
        events = subprocess.Popen(command, env={**os.environ, "DOCKER_HOST": docker.host}, stdout=file)
    try:
        with contextlib.closing(StackBuilder(stack)) as builder:
            requested: list[str] = []
            for number in range(BUILDS):
                dockerfile = f"FROM {docker.base}\nRUN : {uuid4()}; echo this-is-$((1000 + {number}))-\n"
                sha = bridge_forge.create_repo("twenty", f"repo-{number}", {"Dockerfile": dockerfile})
                build = builder.request_build(f"{bridge_forge.url}/twenty/repo-{number}", sha)
                requested.append(build["build_id"])
            for number, build_id in enumerate(requested):
                build = builder.outcome(build_id, 240)
                assert build["state"] == "built", builder.text(build_id)
                assert builder.text(build_id).count(f"this-is-{1000 + number}-\n") == 1
        counts = Counter(created.read_text().split())
        assert {build_id: counts[build_id] for build_id in requested} == dict.fromkeys(requested, 1)
        workers = re.findall(
            r"^(builder-worker-\d+) .*build_claimed",
            stack.compose("logs", "--no-color", "builder-worker"),
            re.MULTILINE,
        )
        assert len(set(workers)) == WORKERS
    finally:
        events.terminate()
        events.wait(60)
        stack.up("--scale", "builder-worker=1", "--no-recreate")


def test_down_and_up_keep_images_and_logs_and_the_next_launch_builds_nothing(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    repository = with_notebook(bridge_forge, "kept", docker.jupyter)
    launch = repository.launch(stack)
    view = run_notebook(launch, repository)
    log = log_of(stack, view["build_id"])
    image = launch.build["image"].rpartition(":")[0]
    until_nothing_runs(stack)
    stack.down()
    assert stack.containers() == []
    remove_images(docker, image)

    stack.up()
    assert log_of(stack, view["build_id"]) == log
    assert run_notebook(repository.launch(stack), repository)["build_id"] == view["build_id"]


def test_after_a_restart_of_all_containers_a_launch_works(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    stack.compose("restart")
    stack.until_healthy()
    repository = with_notebook(bridge_forge, "restarted", docker.jupyter)
    run_notebook(repository.launch(stack), repository)


# Who may reach whom

SCAN = """
import json, socket
from concurrent.futures import ThreadPoolExecutor

def resolved(name):
    try:
        return sorted({info[4][0] for info in socket.getaddrinfo(name, None)})
    except OSError:
        return []

def accepts(target):
    try:
        socket.create_connection(tuple(target), timeout=2).close()
        return True
    except OSError:
        return False

names = {name: resolved(name) for name in NAMES}
targets = [*TARGETS, *((address, port) for found in names.values() for address in found for port in PORTS)]
with ThreadPoolExecutor(128) as pool:
    answers = list(pool.map(accepts, targets))
print(json.dumps({"names": names, "open": [target for target, answer in zip(targets, answers) if answer]}))
"""
NEIGHBOURS = {"proxy", "jupyterhub"}
"""Services that must reach users' servers, and so are in their network: Docker's DNS names them there."""


def test_from_a_users_container_no_service_of_ours_is_reached(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    repository = with_notebook(bridge_forge, "curious", docker.jupyter)
    view = repository.launch(stack).until_ended()
    [server] = stack.started_containers()
    ours = stack.containers()
    listening = {port for container in ours for port in listening_ports(container)}
    assert listening, "nothing listens: this test would prove nothing"
    published = {stack.port, stack.registry_port}
    ports = sorted(listening | published)
    addresses = {
        network[kind]
        for container in ours
        for network in container["NetworkSettings"]["Networks"].values()
        for kind in ("IPAddress", "Gateway")
        if network[kind]
    }
    own = {network["Gateway"] for network in server["NetworkSettings"]["Networks"].values()}
    outside = ["", 0]
    outside[0], _, port = bridge_forge.url.partition("//")[2].partition(":")
    outside[1] = int(port)
    names = sorted({*SERVICES, "hub", *(container["Name"].strip("/") for container in ours)})
    machine = set(subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split())
    targets = [[address, port] for address in sorted(addresses | own) for port in ports]
    targets += [[address, port] for address in sorted(machine - addresses - own) for port in published]
    with kernel(view["url"], view["token"], "index.ipynb") as running_kernel:
        found = json.loads(
            running_kernel.run(f"NAMES = {names}\nTARGETS = {[outside, *targets]}\nPORTS = {ports}\n{SCAN}")
        )
    assert found["open"] == [outside], "only the forge, as a host of the internet, may answer"
    named = {name for name, addresses in found["names"].items() if addresses}
    assert named <= {name for name in names if any(neighbour in name for neighbour in (*NEIGHBOURS, "hub"))}


def test_every_container_of_ours_is_bounded_and_has_no_rights(stack: ComposeStack, docker: Engine) -> None:
    containers = stack.containers()
    assert {container["Config"]["Labels"]["com.docker.compose.service"] for container in containers} == set(SERVICES)
    for container in containers:
        name = container["Name"]
        host = container["HostConfig"]
        processes = docker.docker("top", container["Id"], "-eo", "pid,uid").splitlines()[1:]
        users = {process.split()[1] for process in processes}
        assert users, name
        assert "0" not in users, f"{name} runs as {users}"
        assert host["ReadonlyRootfs"], name
        assert host["Memory"] > 0, name
        assert host["RestartPolicy"]["Name"] in {"always", "unless-stopped"}, name
        assert not host["Privileged"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges" in " ".join(host["SecurityOpt"] or []), name


def test_one_port_is_published_and_on_loopback_alone(stack: ComposeStack) -> None:
    published = {
        (container["Config"]["Labels"]["com.docker.compose.service"], binding["HostIp"])
        for container in stack.containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    assert published == {("proxy", "127.0.0.1"), ("registry", "127.0.0.1")}
