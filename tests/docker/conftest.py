"""A real engine, real registries, a real git server, and a Bindery that builds with them."""

import contextlib
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.docker.compose import Chain
from tests.support import compose_images
from tests.support import service_images as images
from tests.support.compose_plugin import NoComposeError, compose_environment
from tests.support.docker_registry import Registry
from tests.support.engine import Engine, NoEngineError, engine
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.stack import Stack
from tests.support.stack_builds import StackBuilder


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="session")
def docker(forge: Forge) -> Iterator[Engine]:
    with contextlib.ExitStack() as stack:
        try:
            running_engine = stack.enter_context(engine())
        except NoEngineError as missing:
            pytest.skip(f"no container engine: {missing}")
        forge.create_repo("org", "probe", {"README": "a repository"})
        probe = ["git", "ls-remote", f"{forge.url}/org/probe"]
        if "refs/heads/main" not in running_engine.docker(
            "run", "--rm", "--network", "host", running_engine.builder, *probe, is_checked=False
        ):
            pytest.skip(
                f"containers of the engine at {running_engine.host} can't reach this machine's loopback addresses"
            )
        yield running_engine


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of its own: tests stop it and start it."""
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def service_images(docker: Engine) -> dict[str, str]:
    """The images of `make images`, by their short names, as the engine has them: built once for all tests."""
    return images.ensure(docker)


@pytest.fixture(scope="session")
def bridge_forge(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A forge that containers in networks of their own reach, too: at this machine's address in the engine's bridge."""
    subnet = docker.docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").strip()
    with Forge(tmp_path_factory.mktemp("bridge-forge"), host=str(ip_network(subnet)[1])) as forge:
        yield forge


@pytest.fixture(scope="session")
def compose(
    service_images: dict[str, str], docker: Engine, bridge_forge: Forge, tmp_path_factory: pytest.TempPathFactory
) -> Chain:
    """What a stack of docker-compose.yml is made of."""
    try:
        compose_environ = compose_environment()
    except NoComposeError as missing:
        pytest.skip(f"no docker compose: {missing}")
    return Chain(
        folder=tmp_path_factory.mktemp("compose"),
        engine=docker,
        forge=bridge_forge,
        service_images=service_images,
        stand_ins=compose_images.ensure(docker),
        compose_environ=compose_environ,
    )


@pytest.fixture
def repository(forge: Forge, request: pytest.FixtureRequest) -> Callable[[str], tuple[str, str]]:
    """Serve a repository with this Dockerfile; its URL and the sha of its commit."""

    def serve(dockerfile: str) -> tuple[str, str]:
        name = request.node.name.replace("_", "-").lower()[:60]
        return f"{forge.url}/org/{name}", forge.create_repo("org", name, {"Dockerfile": dockerfile})

    return serve


def start_stack(folder: Path, docker: Engine, image_prefix: str, **settings: object) -> Stack:
    """Start a Bindery that builds in containers of the engine, on the host's network to reach the forge on loopback."""
    defaults: dict[str, object] = {
        "executor": "docker", "docker_host": docker.host, "docker_network": "host", "builder_image": docker.builder,
        "image_prefix": image_prefix, "registry_insecure": "true",
    }  # fmt: skip
    return Stack(folder / "data", **(defaults | settings)).start()


@pytest.fixture(scope="session")
def stack(docker: Engine, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = start_stack(tmp_path_factory.mktemp("stack"), docker, f"{registry.address}/team/")
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def builder(stack: Stack) -> Iterator[StackBuilder]:
    with contextlib.closing(StackBuilder(stack)) as builder:
        yield builder


def containers_of(docker: Engine, build_id: str = "") -> list[str]:
    """Return the containers that the engine has of an attempt, or of all."""
    names = docker.docker("ps", "--all", "--format", "{{.Names}}").split()
    return [name for name in names if name.startswith(f"bindery-{build_id}")]


def until_tidy(docker: Engine, build_id: str) -> None:
    """Wait until an attempt has left no container."""
    eventually(lambda: not containers_of(docker, build_id), f"{build_id} leaves no container", 30)
