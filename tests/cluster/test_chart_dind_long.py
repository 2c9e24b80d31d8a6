"""Builds by the chart's own engines, Docker in Docker: their images, their ends, their limits, and what they leave.

No pod of this cluster has a way out, so no step of these builds fetches anything.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.conftest import push_image
from tests.support import compose_images
from tests.support.api_launches import ApiLaunch
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import run_notebook, with_notebook
from tests.support.helm_release import CHART, EXAMPLES, HelmRelease
from tests.support.page_commands import commands, section
from tests.support.polling import eventually
from tests.support.release_objects import is_ready
from tests.support.releases import Releases

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
STEPS_MIB = 384
OWN_MIB = 256
RUN_AGAIN = "The build is run again"
SELECTOR = "app.kubernetes.io/component=engine"
ON_NO_NODE = {"spec": {"template": {"spec": {"nodeSelector": {"bindery-test/there": "is-none"}}}}}
OLD_IMAGE = """
set -e; cd "$(mktemp -d)"
printf '%s' '{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","rootfs":{"type":"layers"}}' >config
printf '%s' '[{"Config":"config","RepoTags":["old:1"],"Layers":[]}]' >manifest.json
tar c config manifest.json | docker load
"""
REACH = (
    "import socket; reach = lambda *to: (lambda near: (near.settimeout(5), near.connect_ex(to))[1])(socket.socket());"
    ' print("the forge:", reach("{forge}", {port}), "the registry:", reach("{registry}", 5000))'
)
"""Prints which error a connection to each ends with; 0 is none."""
UNANSWERED = errno.EAGAIN
"""With this one `connect_ex` ends at its timeout: packets to there are dropped, and nobody refuses them."""
HELD = 'import socket; socket.create_connection(("{host}", {port}), 300).recv(1)'
"""Ends when somebody has taken the connection, and closed it."""


@pytest.fixture(scope="module")
def release(releases: Releases) -> Iterator[HelmRelease]:
    """A release as with kind, whose engine cleans up all the time."""
    assert releases.cluster.is_own, "the engine's folders are on the node, which is not this machine"
    folder = releases.folder
    image = push_image(releases.engine, compose_images.dind(releases.engine))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder / "layers", ignore_errors=True)
        release = stack.enter_context(releases.new())
        release.change({"images": {"engine": image}})
        release.values["engine"] = {
            "kind": "dind",
            "resources": {"limits": {"memory": f"{OWN_MIB + STEPS_MIB}Mi"}},
            "dind": {
                "socketFolder": str(folder / "sockets"),
                "dataFolder": str(folder / "layers"),
                "ownMemoryMiB": OWN_MIB,
                "cleaning": {"diskPercent": 1, "everySeconds": 1},
            },
        }
        yield release.install("--values", str(EXAMPLES / "kind.yaml"))


@pytest.fixture(scope="module")
def base(release: HelmRelease, the_engine: Engine) -> str:
    """A Jupyter image in the release's own registry, as the node and its engine pull it."""
    name = f"127.0.0.1:{release.registry_port}/bases/jupyter:1"
    the_engine.docker("tag", the_engine.jupyter, name)
    try:
        the_engine.docker("push", "--quiet", name, seconds=300)
    finally:
        the_engine.docker("rmi", name)
    return name


class Gate:
    """Holds steps of builds until it is opened, or for 5 minutes: then they fail."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self._program = HELD.format(host=host, port=self._listener.getsockname()[1])

    def step(self, name: str) -> str:
        """Return a step that says when it begins, and goes on as long as the gate is closed."""
        return f"RUN echo {name} has begun && python3 -c '{self._program}'"

    def open(self) -> None:
        threading.Thread(target=self._let_through, daemon=True).start()

    def _let_through(self) -> None:
        with contextlib.suppress(OSError):  # it is removed
            while True:
                self._listener.accept()[0].close()

    def remove(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def gate(release: HelmRelease) -> Iterator[Gate]:
    gate = Gate(release.cluster.host)
    yield gate
    gate.remove()


def test_an_engine_builds_on_an_image_of_the_bundled_registry_and_removes_old_ones(
    release: HelmRelease, forge: Forge, base: str
) -> None:
    release.kubectl("exec", engine_pod(release), "-c", "dockerd", "--", "sh", "-c", OLD_IMAGE, namespace=release.builds)
    forge_address = urlsplit(forge.url)
    registry = f"{release.name}-registry.{release.namespace}.svc"
    program = REACH.format(forge=forge_address.hostname, port=forge_address.port, registry=registry)
    repository = with_notebook(forge, "first", base, f"RUN python3 -c '{program}'")
    launch = repository.launch(release)
    run_notebook(launch, repository)
    assert f"the forge: 0 the registry: {UNANSWERED}" in launch.stream.text, "a step does not reach the registry"
    eventually(lambda: "old" not in images_of(release), "the image of years ago is removed")
    assert [name for name in images_of(release) if "first" in name], images_of(release)


def test_the_pages_commands_show_what_an_engine_has(release: HelmRelease) -> None:
    engine_pod(release)
    page = "\n".join(commands(section("helm.md", "## The engine of builds")))
    own = page.replace("kubectl --namespace bindery-builds ", "").replace(
        "/bindery-engine ", f"/{release.name}-engine "
    )
    outputs = [release.kubectl(*command.split(), namespace=release.builds) for command in own.splitlines()]
    assert "Build Cache" in outputs[0]
    assert len(outputs) == 2


def engine_pod(release: HelmRelease) -> str:
    """Return the name of the engine's pod, once it is ready."""

    def ready() -> str:
        pods = release.objects("pods", namespace=release.builds, selector=SELECTOR)
        return next((str(pod["metadata"]["name"]) for pod in pods if is_ready(pod)), "")

    name: str = eventually(ready, "an engine is ready", 120)
    return name


def images_of(release: HelmRelease) -> set[str]:
    command = ("docker", "images", "--format", "{{.Repository}}")
    return set(
        release.kubectl("exec", engine_pod(release), "-c", "dockerd", "--", *command, namespace=release.builds).split()
    )


def until_step(launch: ApiLaunch) -> None:
    """Wait until a step of the build runs."""
    launch.stream.until_message(" has begun\n", 120)


def test_a_build_waits_for_an_engine_that_was_taken_away_and_is_run_again(
    release: HelmRelease, forge: Forge, base: str, gate: Gate
) -> None:
    repository = with_notebook(forge, "away", base, gate.step("away"))
    launch = repository.launch(release)
    until_step(launch)
    [build] = release.objects("pods", namespace=release.builds, selector="bindery/build-id")
    assert "nodeAffinity" in build["spec"]["affinity"], "it prefers a node with an engine"
    daemons = f"daemonset/{release.name}-engine"
    release.kubectl("patch", daemons, "--patch", json.dumps(ON_NO_NODE), namespace=release.builds)
    try:
        launch.stream.until_message("docker.sock is not a socket file. Waiting ...", 120)
    finally:
        back = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
        release.kubectl("patch", daemons, "--type", "json", "--patch", json.dumps(back), namespace=release.builds)
    assert RUN_AGAIN in launch.stream.text
    gate.open()
    run_notebook(launch, repository)


def test_a_build_whose_engine_is_killed_is_run_again(release: HelmRelease, forge: Forge, base: str, gate: Gate) -> None:
    repository = with_notebook(forge, "killed", base, gate.step("killed"))
    launch = repository.launch(release)
    until_step(launch)
    processes = processes_of(uid_of(release, engine_pod(release)))
    os.kill(min(pid for pid, program in processes.items() if program == "dockerd"), signal.SIGKILL)
    launch.stream.until_message(RUN_AGAIN, 120)
    gate.open()
    run_notebook(launch, repository)


def uid_of(release: HelmRelease, pod: str) -> str:
    return release.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}", namespace=release.builds)


def processes_of(uid: str) -> dict[int, str]:
    """Return the processes of a pod, steps of builds among them, as this machine knows them: the program by pid."""
    folders = [path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if uid in read(path)]
    return {int(folder.name): read(folder / "comm").strip() for folder in folders}


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def test_a_step_beyond_the_engines_limit_ends_alone(release: HelmRelease, forge: Forge, base: str, gate: Gate) -> None:
    pod = engine_pod(release)
    before = restarts(release)
    slow = with_notebook(forge, "beside", base, gate.step("beside"))
    beside = slow.launch(release)
    until_step(beside)
    greedy = with_notebook(forge, "greedy", base, f"RUN python3 -c 'len(b\"x\" * ({STEPS_MIB} << 20))'")
    problem = greedy.launch(release).problem()
    assert problem["code"] == "build_out_of_memory"
    assert "Its limit is the container engine's own" in problem["detail"]
    assert beside.view["state"] == "building"
    gate.open()
    run_notebook(beside, slow)
    assert (engine_pod(release), restarts(release)) == (pod, before)


def restarts(release: HelmRelease) -> int:
    """Return how often a container of the engine's pod was started anew."""
    [pod] = release.objects("pods", namespace=release.builds, selector=SELECTOR)
    return sum(container["restartCount"] for container in pod["status"]["containerStatuses"])


def test_a_removal_amid_a_build_leaves_nothing_but_layers(
    release: HelmRelease, forge: Forge, base: str, gate: Gate
) -> None:
    until_step(with_notebook(forge, "removed", base, gate.step("removed")).launch(release))
    uid = uid_of(release, engine_pod(release))
    assert {"dockerd", "python3"} <= set(processes_of(uid).values()), "the engine runs, and a step"
    assert mounts_of(release.folder / "layers")
    release.uninstall()
    eventually(lambda: not release.cluster.has("namespace", release.builds), "the builds' namespace is gone", 120)
    assert processes_of(uid) == {}
    assert mounts_of(release.folder / "layers") == set()
    assert [path.name for path in (release.folder / "sockets").rglob("*") if not path.is_dir()] == []


def mounts_of(folder: Path) -> set[str]:
    """Return the mounts of this machine, whoever sees them, that have to do with a folder."""
    # A mount is listed with its path in its own file system, which may lack the first folders.
    name = "/".join(folder.parts[-3:])
    tables = [read(path) for path in Path("/proc").glob("[0-9]*/mountinfo")]
    return {line for table in tables for line in table.splitlines() if name in line}


def test_with_version_2_of_cgroups_an_engine_sees_its_pods_as_all_that_there_are(tmp_path: Path) -> None:
    entrypoint = tmp_path / "dockerd-entrypoint.sh"
    entrypoint.write_text("#!/bin/sh\ngrep ^0:: /proc/self/cgroup; grep -c . /sys/fs/cgroup/init/cgroup.procs\n")
    entrypoint.chmod(0o755)
    pod = f"/sys/fs/cgroup/bindery-test-{os.getpid()}"
    start = f"echo $$ >{pod}/cgroup.procs; exec sh {CHART}/files/start-engine.sh dockerd"
    script = f"""
        mount -t cgroup2 none /sys/fs/cgroup; mkdir {pod}
        sh -c '{start}' || echo failed
        umount /sys/fs/cgroup; rmdir {pod}/init {pod}
    """
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{tmp_path}/docker.sock", "MTU": "0"}
    output = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], env=environ, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == [f"0::/{Path(pod).name}/init", "3"], output.stderr
