"""From a link to a kernel in a container, and back to nothing: executor and spawner are those of one Docker engine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.jupyterhub.labels import installation_label
from tests.docker.conftest import start_stack
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import NEVER_UP, QUICK, NeverUp, run_notebook, with_notebook
from tests.support.leftovers import Listing, assert_no_work_is_left, delete_hub_user, until_back_to
from tests.support.polling import eventually
from tests.support.stack import Stack


def objects(docker: Engine) -> frozenset[str]:
    """Return every container, volume and network of the engine."""
    containers = docker.docker("ps", "--all", "--format", "container {{.ID}} {{.Names}}")
    volumes = docker.docker("volume", "ls", "--format", "volume {{.Name}}")
    networks = docker.docker("network", "ls", "--format", "network {{.ID}} {{.Name}}")
    return frozenset(f"{containers}{volumes}{networks}".splitlines())


@pytest.fixture(scope="module")
def stack(docker: Engine, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("chain")
    stack = start_stack(folder, docker, f"{registry.address}/chain/", **QUICK)
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(autouse=True)
def nothing_is_left(docker: Engine, stack: Stack) -> Iterator[None]:
    """Each test begins and ends with the same containers, volumes, networks, users, seats and queue entries."""
    before = Listing.of(stack)
    objects_before = objects(docker)
    yield
    for user in stack.hub_users():
        delete_hub_user(stack, user)
    until_gone(lambda: objects(docker) ^ objects_before, "the engine is as it was", 60)
    until_back_to(stack, before)


def test_from_a_link_to_a_kernel_in_a_container_and_back_to_nothing(stack: Stack, docker: Engine, forge: Forge) -> None:
    before = Listing.of(stack)
    objects_before = objects(docker)
    repository = with_notebook(forge, "first", docker.jupyter)
    launch = repository.launch(stack, path="index.ipynb")
    view = run_notebook(launch, repository)
    build = launch.build

    installation = installation_label(stack.installation["installation_id"])
    [name] = docker.docker(
        "ps", "--filter", f"label=bindery/installation={installation}", "--format", "{{.ID}}"
    ).split()
    [container] = json.loads(docker.docker("inspect", name))
    assert container["Config"]["Image"] == f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    assert container["Config"]["Labels"]["bindery/repo-url"] == repository.url
    assert container["Config"]["Labels"]["bindery/ref"] == repository.sha
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert view["launch_id"] not in json.dumps(container)
    assert view["token"] not in json.dumps(container["Args"])

    again = repository.launch(stack)
    assert again.until_ended()["build_id"] == view["build_id"]
    eventually(lambda: not stack.hub_users(), "the culler removes both servers", 120)
    until_gone(lambda: objects(docker) ^ objects_before, "the engine is as it was", 60)
    until_back_to(stack, before)
    assert_no_work_is_left(stack)


@pytest.mark.parametrize("case", NEVER_UP, ids=[case.name for case in NEVER_UP])
def test_a_server_that_does_not_come_up_fails_with_a_code_of_its_own(
    stack: Stack, docker: Engine, forge: Forge, case: NeverUp
) -> None:
    case.check(stack, forge, docker.jupyter)


def test_an_image_that_has_gone_from_engine_and_registry_is_built_again_within_the_launch(
    stack: Stack, docker: Engine, forge: Forge, registry: Registry
) -> None:
    repository = with_notebook(forge, "gone", docker.jupyter)
    first = repository.launch(stack)
    run_notebook(first, repository)
    for user in stack.hub_users():
        delete_hub_user(stack, user)
    eventually(lambda: not stack.hub_users(), "its server has ended")
    build = first.build
    path = f"/v2/{build['image'].partition('/')[2].rpartition(':')[0]}/manifests/{build['digest']}"
    assert registry.call("DELETE", path).status == 202
    docker.docker("rmi", "--force", *images_of(docker, build["image"].rpartition(":")[0]))

    second = repository.launch(stack)
    assert run_notebook(second, repository)["build_id"] != build["build_id"]


def images_of(docker: Engine, name: str) -> list[str]:
    """Return the ids of the images that have a name."""
    return sorted(set(docker.docker("images", "--quiet", name).split()))


def test_a_hub_that_is_killed_finds_its_containers_again(stack: Stack, docker: Engine, forge: Forge) -> None:
    repository = with_notebook(forge, "killed", docker.jupyter)
    view = run_notebook(repository.launch(stack), repository)
    containers = objects(docker)
    pid = stack.kill("hub")
    stack.until_replaced("hub", pid)
    assert stack.client.get(f"{view['url']}api", params={"token": view["token"]}).json()["version"]
    eventually(stack.hub_answers, "the hub is back")
    assert stack.hub_users()
    assert stack.client.get(f"{view['url']}api", params={"token": view["token"]}).json()["version"]
    assert objects(docker) == containers


def test_without_a_registry_servers_start_from_the_engines_own_images_and_end_with_everything(
    docker: Engine, forge: Forge, tmp_path: Path
) -> None:
    objects_before = objects(docker)
    repository = with_notebook(forge, "local", docker.jupyter)
    stack = start_stack(tmp_path, docker, "local/chain-", build_push="false", **QUICK)
    try:
        run_notebook(repository.launch(stack), repository)
        assert objects(docker) != objects_before
    finally:
        stack.stop()
    assert objects(docker) == objects_before
    assert "in containers" in stack.log()
