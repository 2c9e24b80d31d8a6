"""The images of services and hub: what is in them, what is not, and that they run as nobody on a read-only root."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.redis import redis_binary
from services.common.version import VERSION
from tests.support.docker_registry import DOCKER_MANIFEST, Registry
from tests.support.engine import Engine
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.real_hub import HubStack
from tests.support.service_images import IMAGES, make_images

MB = 1_000_000
WITH_GIT = {"resolver", "repo2docker"}
WITH_KUBERNETES = {"builder", "hub"}
SERVICES = ("gateway", "resolver", "builder", "worker", "launcher")
TOOLS = ("pip", "pip3", "ensurepip", "gcc", "cc", "c++", "ld", "make", "curl", "wget")
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
SERVED = ("--detach", *HARDENED, "--network", "host", "--memory", "256m")
SURVEY = """
import importlib.util, json, os, pathlib, shutil, sys
names = sys.argv[1:]
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "programs": [name for name in [*names, "git"] if shutil.which(name)],
    "modules": [name for name in [*names, "kubernetes_asyncio", "setuptools"] if importlib.util.find_spec(name)],
    "compiled_by_time": [
        str(path) for path in pathlib.Path("/app").rglob("*.pyc") if path.read_bytes()[4:8] != b"\\1\\0\\0\\0"
    ],
}))
"""
COMPILED_NOW = re.compile(r"^# code object from (/.*\.py)$", re.MULTILINE)
"""In the output of `python -v`, for a module that was compiled from its source; for others it has quotes."""
LOADED = re.compile(r"^# code object from '(/.*\.pyc)'$", re.MULTILINE)
"""The same for a module that was loaded in its compiled form."""


def verbose(docker: Engine, image: str) -> list[str]:
    """Return an image's own command, by a Python that tells what it imports."""
    program, *arguments = inspected(docker, "image", image)["Config"]["Cmd"]
    return ["python", "-v", *([] if program == "python" else [f"/opt/venv/bin/{program}"]), *arguments]


def inspected(docker: Engine, kind: str, name: str) -> dict[str, Any]:
    [description] = json.loads(docker.docker(kind, "inspect", name))
    return dict(description)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is_and_is_not_larger_than_it_may_be(
    service_images: dict[str, str], docker: Engine, image: str
) -> None:
    description = inspected(docker, "image", service_images[image])
    config = description["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in (config["Labels"] or {}).items()}
    git = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    assert labels["title"] == f"Bindery {image}"
    assert labels["version"] == VERSION
    assert labels["revision"].startswith(revision)
    assert labels["licenses"] == "BSD-3-Clause"
    assert {"source", "description"} <= labels.keys()
    assert description["Size"] < (350 if image in WITH_GIT else 250) * MB
    assert config["Cmd"][0] not in {"/bin/sh", "sh"}, "the process itself gets SIGTERM"
    assert config["User"] == "10001:10001"
    if image != "repo2docker":  # it serves nothing
        assert config["Healthcheck"]["Test"]


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_in_an_image_installs_or_compiles_and_git_is_only_where_it_is_used(
    service_images: dict[str, str], docker: Engine, image: str
) -> None:
    python = "/opt/repo2docker/bin/python" if image == "repo2docker" else "python"
    survey = json.loads(docker.docker("run", "--rm", *HARDENED, service_images[image], python, "-c", SURVEY, *TOOLS))
    assert survey["programs"] == (["git"] if image in WITH_GIT else [])
    assert survey["modules"] == (["kubernetes_asyncio"] if image in WITH_KUBERNETES else [])
    assert survey["ids"] == [10001, 10001]
    # A layer that the engine has kept has sources of an older time than modules that were compiled anew.
    assert survey["compiled_by_time"] == []


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis that containers on the host's network reach."""
    [port] = free_ports(1, avoid=set())
    folder = tmp_path_factory.mktemp("redis")
    command = [str(redis_binary()), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "secret", "--save", ""]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://:secret@127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def containers(service_images: dict[str, str], docker: Engine, redis: str) -> Iterator[dict[str, tuple[str, int]]]:
    """A container of each service, with its port."""
    ports = dict(zip(SERVICES, free_ports(len(SERVICES), avoid=set()), strict=True))
    variables = {
        "REDIS_URL": redis,
        "SERVICE_TOKEN": "token-of-the-services",
        "INSTALLATION_SECRET": "a secret of thirty-two characters or more",
        "LISTEN_HOST": "127.0.0.1",
        "PUBLIC_URL": "http://127.0.0.1:9",
        "RESOLVER_URL": f"http://127.0.0.1:{ports['resolver']}",
        "BUILDER_URL": f"http://127.0.0.1:{ports['builder']}",
        "LAUNCHER_URL": f"http://127.0.0.1:{ports['launcher']}",
        "HUB_URL": "http://127.0.0.1:9/",
        "HUB_API_URL": "http://127.0.0.1:9/hub/api/",
        "HUB_API_TOKEN": "token-of-the-hub",
        "EXECUTOR": "docker",
        "DOCKER_HOST": docker.host,
        "BUILD_PUSH": "false",
        "IMAGE_PREFIX": "localhost/images-",
    }
    started: dict[str, tuple[str, int]] = {}
    try:
        for service, port in ports.items():
            settings = [f"--env=BINDERY_{name}={value}" for name, value in (variables | {"LISTEN_PORT": port}).items()]
            image = service_images["builder" if service == "worker" else service]
            command = verbose(docker, image)
            if service == "worker":
                command[-1] = "services.builder.worker"
            started[service] = docker.docker("run", *SERVED, *settings, image, *command).strip(), port
        yield started
    finally:
        for container, _ in started.values():
            docker.docker("rm", "--force", "--volumes", container)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_as_nobody_on_a_read_only_root_and_ends_when_it_is_asked_to(
    containers: dict[str, tuple[str, int]], docker: Engine, service: str
) -> None:
    container, port = containers[service]
    _until_it_answers(docker, container, f"http://127.0.0.1:{port}/livez")
    if service == "resolver":  # the one that needs none of the others
        _until_healthy(docker, container)
    else:
        _until_probed(docker, container)
    _stop(docker, container)


def test_the_hub_runs_as_nobody_on_a_read_only_root_and_ends_when_it_is_asked_to(
    service_images: dict[str, str], docker: Engine, tmp_path: Path
) -> None:
    hub = HubInContainer(docker, service_images["hub"], tmp_path / "hub")
    try:
        hub.start()
        assert hub.call("GET", "users").json() == []
        _until_healthy(docker, hub.container)
        _stop(docker, hub.container)
    finally:
        hub.stop()


class HubInContainer(HubStack):
    """A hub in a container of its image, on the host's network, behind a real traefik."""

    def __init__(self, docker: Engine, image: str, folder: Path) -> None:
        routes = folder / "routes"
        routes.mkdir(parents=True)
        routes.chmod(0o777)
        super().__init__(folder, BINDERY_SPAWNER="docker", BINDERY_PROXY_RULES_FILE=str(routes / "rules.toml"))
        self._docker = docker
        self._image = image
        self._routes = routes
        self.container = ""

    def start_hub(self) -> None:
        variables = [f"--env={name}={value}" for name, value in self.env.items() if name.startswith("BINDERY_")]
        socket = self._docker.socket
        mounts = [f"--volume={self._routes}:{self._routes}", "--volume=/data", "--env=BINDERY_DATA_DIR=/data"]
        mounts += [f"--volume={socket}:/var/run/docker.sock", f"--group-add={socket.stat().st_gid}"]
        run = ["run", *SERVED, *variables, *mounts]
        self.container = self._docker.docker(*run, self._image, *verbose(self._docker, self._image)).strip()
        _until_it_answers(self._docker, self.container, f"{self.api}/health")
        eventually(self.answers, "the hub answers through the proxy", 60)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/api/").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self.container:
            self._docker.docker("rm", "--force", "--volumes", self.container)
        super().stop()


def _until_it_answers(docker: Engine, container: str, url: str) -> None:
    def answers() -> bool:
        state = inspected(docker, "container", container)["State"]
        assert state["Running"], _said(_log(docker, container))
        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers, f"{url} answers", 60)


def _said(log: str) -> str:
    """Return the end of a log without what `python -v` adds to it."""
    return "\n".join([line for line in log.splitlines() if not line.startswith(("#", "import "))][-30:])


def _until_probed(docker: Engine, container: str) -> None:
    """Wait until the image's own health check has been answered, whatever the answer is."""

    def is_answered() -> bool:
        results = _health(docker, container)["Log"]
        return bool(results) and not results[-1]["Output"].startswith("The service does not answer")

    eventually(is_answered, "the health check is answered", 60)


def _until_healthy(docker: Engine, container: str) -> None:
    eventually(lambda: _health(docker, container)["Status"] == "healthy", "the engine calls it healthy", 60)


def _health(docker: Engine, container: str) -> dict[str, Any]:
    return dict(inspected(docker, "container", container)["State"]["Health"])


def _stop(docker: Engine, container: str) -> None:
    """Stop a container, and check that it ended by itself, and that Python has compiled nothing in it."""
    docker.docker("stop", "--time", "30", container, seconds=60)
    state = inspected(docker, "container", container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), "137: it was killed after 30 s"
    log = _log(docker, container)
    assert COMPILED_NOW.findall(log) == []
    assert any(path.startswith("/app/") for path in LOADED.findall(log)), "Python does not tell what it imports"


def _log(docker: Engine, container: str) -> str:
    command = ["docker", "--host", docker.host, "logs", container]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


@pytest.mark.long
def test_all_images_are_pushed_under_the_name_that_is_asked_for(docker: Engine, registry: Registry) -> None:
    output = make_images(docker, f"PUSH={registry.address}/site", "TAG=1.2.3")
    for image in IMAGES:
        assert f"pushed: {registry.address}/site/{image}:1.2.3" in output
        path = f"/v2/site/{image}/manifests/1.2.3"
        manifest = json.loads(registry.call("GET", path, headers={"Accept": DOCKER_MANIFEST}).body)
        config = json.loads(registry.call("GET", f"/v2/site/{image}/blobs/{manifest['config']['digest']}").body)
        assert config["config"]["Labels"]["org.opencontainers.image.title"] == f"Bindery {image}"
    names = [
        f"{prefix}/{image}:1.2.3" for image in IMAGES for prefix in (f"{registry.address}/site", "localhost/bindery")
    ]
    docker.docker("rmi", *names)
