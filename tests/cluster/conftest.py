"""A real cluster, engine and registry, and builders whose Jobs run there."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import compose_images, service_images
from tests.support.builder_processes import Builders, running_builders
from tests.support.cluster import RUN, Cluster, Namespace
from tests.support.cluster_probe import probe
from tests.support.cluster_start import NoClusterError, cluster
from tests.support.engine import REGISTRY, Engine, NoEngineError, engine, registry_url
from tests.support.forge import Forge
from tests.support.helm_release import push_images
from tests.support.releases import Releases

NOOP = Path(__file__).with_name("noop_build.py")
Start = Callable[..., Builders]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, where KUBECONFIG names a cluster elsewhere, the tests that stop parts of a cluster."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig or Path(kubeconfig) == RUN / "admin.kubeconfig":
        return
    left_out = [item for item in items if "own_cluster" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def the_cluster() -> Iterator[Cluster]:
    try:
        with cluster() as running_cluster:
            yield running_cluster
    except NoClusterError as error:
        pytest.skip(str(error))


@pytest.fixture
def own_cluster(the_cluster: Cluster) -> Cluster:
    """A cluster of the tests' own, for those that stop parts of it or look at its node's files."""
    if not the_cluster.is_own:
        pytest.skip(f"the cluster of KUBECONFIG={the_cluster.kubeconfig} is not ours: no part of it is stopped")
    return the_cluster


@pytest.fixture(scope="session")
def the_engine() -> Iterator[Engine]:
    try:
        with engine() as running_engine:
            yield running_engine
    except NoEngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def builder_image(the_engine: Engine) -> str:
    """The builder image, where the cluster can pull it."""
    name = f"{REGISTRY}/{the_engine.builder}"
    the_engine.docker("tag", the_engine.builder, name)
    the_engine.docker("push", "--quiet", name, seconds=300)
    return name


@pytest.fixture(scope="session", autouse=True)
def ways(the_cluster: Cluster, builder_image: str) -> None:
    """A cluster elsewhere can pull our images, and its pods and this machine reach each other."""
    if not the_cluster.is_own:
        probe(the_cluster, builder_image)


@pytest.fixture(scope="module")
def namespace(the_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the module's own."""
    module = request.module.__name__.rpartition(".")[2].replace("_", "-")
    with the_cluster.namespace(f"bindery-{module}-{os.getpid()}") as own_namespace:
        yield own_namespace


def push_image(engine: Engine, image: str) -> str:
    """Push an image of the engine; return it as the cluster pulls it: by its digest."""
    name = f"{REGISTRY}/{image}"
    engine.docker("tag", image, name)
    engine.docker("push", "--quiet", name, seconds=300)
    digests = json.loads(engine.docker("inspect", "--format", "{{json .RepoDigests}}", name))
    return next(str(digest) for digest in digests if digest.startswith(f"{REGISTRY}/"))


@pytest.fixture(scope="session")
def image(the_engine: Engine) -> str:
    """A Jupyter server's image, where the cluster can pull it."""
    return push_image(the_engine, the_engine.jupyter)


@pytest.fixture(scope="session")
def chart_images(the_engine: Engine) -> dict[str, Any]:
    """The images of an installation, where the cluster can pull them, as values of the chart."""
    service_images.ensure(the_engine)
    return push_images(the_engine, compose_images.ensure(the_engine))


@pytest.fixture(scope="module")
def releases(
    the_cluster: Cluster, the_engine: Engine, chart_images: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Releases:
    """Releases of the chart, of the module's own."""
    folder = tmp_path_factory.mktemp("helm")
    return Releases(folder=folder, cluster=the_cluster, engine=the_engine, images=chart_images)


@pytest.fixture
def forge(tmp_path: Path, the_cluster: Cluster) -> Iterator[Forge]:
    """A git server that pods reach."""
    with Forge(tmp_path / "forge", host=the_cluster.host) as own_forge:
        yield own_forge


def builder_settings(namespace: Namespace, folder: Path, engine: Engine, builder_image: str) -> dict[str, object]:
    """Return the settings of builders whose Jobs run the real repo2docker."""
    return {
        "executor": "kubernetes",
        "kubernetes_config": namespace.kubeconfig(folder),
        "kubernetes_docker_host": engine.host,
        "builder_image": builder_image,
        "image_prefix": f"{REGISTRY}/{namespace.name}/",
        "allowed_networks": f"{namespace.cluster.host}/32",
        "registry_insecure": True,
    }


def noop_settings(cluster: Cluster) -> dict[str, object]:
    """Return the settings by which Jobs run `noop_build.py` from the builder image: real Jobs and pods, no engine."""
    return {
        "kubernetes_command": json.dumps(["python3", "-c", NOOP.read_text()]),
        "kubernetes_docker_host": "",
        "repo2docker_extra_envs": json.dumps({"NOOP_REGISTRY": registry_url(cluster.host)}),
    }


@pytest.fixture
def start(tmp_path: Path, namespace: Namespace, the_engine: Engine, builder_image: str) -> Iterator[Start]:
    """Start an API and a worker whose Jobs run the real repo2docker; settings may be changed.

    At the end nothing of any build may be left in the namespace.
    """
    with contextlib.ExitStack() as stack:

        def begin(**settings: object) -> Builders:
            defaults = builder_settings(namespace, tmp_path, the_engine, builder_image)
            return stack.enter_context(running_builders(tmp_path, **(defaults | settings)))

        yield begin


@pytest.fixture
def start_noop(start: Start, the_cluster: Cluster) -> Start:
    """The same with Jobs that run `noop_build.py` from the builder image: real Jobs and pods, no engine."""

    def begin(**settings: object) -> Builders:
        return start(**(noop_settings(the_cluster) | settings))

    return begin
