"""A Kubernetes for the tests: found, or started and ended.

`cluster()` uses the first that there is of

1. the cluster of KUBECONFIG, anywhere. BINDERY_TEST_HOST is the address of this machine that its pods reach, and
   BINDERY_TEST_REGISTRY the registry (host:port, http) that it pulls from and that the engine pushes to. The engine,
   DOCKER_HOST, must be at an address that pods reach too, or at a socket that its nodes have;
2. the scripts in BINDERY_TEST_CLUSTER_DIR, which build, start and end a cluster on this machine;
3. a cluster that kind or k3d creates, if one of them is installed (`tests/support/container_clusters.py`);
4. the scripts in `../shared/cluster`.

A cluster of the scripts is used as it is if it is up already. What an earlier run left half-dead is ended first, by the
pids that it recorded. By hand:

    python -m tests.support.cluster_start run -- make test-cluster     # keeps one up for the length of a command
    python -m tests.support.cluster_start build                        # only builds what the scripts start
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster import HOME, HOST, PIDS, RUN, Cluster, is_healthy
from tests.support.container_clusters import ContainerClusterError, container_cluster, installed_tool
from tests.support.engine import REGISTRY, NoEngineError, engine
from tests.support.paths import CHECKOUT

_BUILD_SECONDS = 3000
_UP_SECONDS = 240


class NoClusterError(Exception):
    """There is no cluster and none can be started; the message says in one line what is missing."""


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Keep a cluster there for the length of the block. Raise `NoClusterError`."""
    scripts = _scripts()
    tool = None if "BINDERY_TEST_CLUSTER_DIR" in os.environ else installed_tool()
    if kubeconfig := os.environ.get("KUBECONFIG"):
        source: contextlib.AbstractContextManager[Cluster] = contextlib.nullcontext(_of_kubeconfig(Path(kubeconfig)))
    elif tool:
        source = _in_containers(tool)
    elif (scripts / "up.sh").exists():
        source = _of_scripts(scripts)
    else:
        raise NoClusterError(
            "no cluster: set KUBECONFIG to one, install kind or k3d, or set BINDERY_TEST_CLUSTER_DIR to scripts that"
            f" start one (none in {scripts})"
        )
    with source as cluster:
        yield cluster


def _scripts() -> Path:
    return Path(os.environ.get("BINDERY_TEST_CLUSTER_DIR") or CHECKOUT.parent / "shared" / "cluster")


def build() -> None:
    """Build what the scripts start, unless another cluster is to be used. Raise `NoClusterError`."""
    has_another = "KUBECONFIG" in os.environ or ("BINDERY_TEST_CLUSTER_DIR" not in os.environ and installed_tool())
    if not has_another and (_scripts() / "up.sh").exists():
        _build(_scripts())


def _of_kubeconfig(kubeconfig: Path) -> Cluster:
    program = _kubectl()
    if not is_healthy(program, kubeconfig):
        raise NoClusterError(f"the cluster of KUBECONFIG={kubeconfig} does not answer")
    is_own = kubeconfig == RUN / "admin.kubeconfig"
    if is_own:
        return Cluster(
            kubeconfig=kubeconfig,
            kubectl_program=program,
            host=os.environ.get("BINDERY_TEST_HOST") or HOST,
            is_own=True,
        )

    host = os.environ.get("BINDERY_TEST_HOST", "")
    if not _is_ours(host):
        raise NoClusterError(
            f"BINDERY_TEST_HOST={host} must be the address of this machine that pods of KUBECONFIG={kubeconfig} reach"
        )
    if not os.environ.get("BINDERY_TEST_REGISTRY"):
        raise NoClusterError(
            "BINDERY_TEST_REGISTRY must be a registry (host:port, http) that this machine, its engine and the cluster"
            f" of KUBECONFIG={kubeconfig} all reach under that name"
        )
    return Cluster(kubeconfig=kubeconfig, kubectl_program=program, host=host, is_own=False)


def _is_ours(address: str) -> bool:
    """Return whether a server on this machine can listen there."""
    with contextlib.suppress(OSError), socket.create_server((address, 0)):
        return bool(address)
    return False


@contextlib.contextmanager
def _in_containers(tool: str) -> Iterator[Cluster]:
    """Keep a cluster of kind or k3d, and the engine that runs it."""
    try:
        with engine() as running_engine, container_cluster(tool, running_engine, HOME / tool) as running:
            yield Cluster(kubeconfig=running.kubeconfig, kubectl_program=_kubectl(), host=running.host, is_own=False)
    except (ContainerClusterError, NoEngineError) as error:
        raise NoClusterError(f"{tool} has made no cluster: {error}") from error


@contextlib.contextmanager
def _of_scripts(scripts: Path) -> Iterator[Cluster]:
    """Keep the machine's own cluster, which is shared by all runs of the moment."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "tests.lock").open("a") as lock:
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)  # waits only while somebody brings it up or takes it down
            if is_up():
                break
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another is about to bring it up
                fcntl.flock(lock, fcntl.LOCK_UN)
                time.sleep(0.2)
                continue
            _bring_up(scripts)
            (RUN / "of-the-tests").touch()
        try:
            yield Cluster(
                kubeconfig=RUN / "admin.kubeconfig",
                kubectl_program=str(HOME / "bin" / "kubectl"),
                host=HOST,
                is_own=True,
            )
        finally:
            if (RUN / "of-the-tests").exists():  # else it was up before
                with contextlib.suppress(BlockingIOError):  # somebody uses it still, and takes it down later
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _script(scripts, "down.sh", 120)


def is_up() -> bool:
    """Return whether the machine's own cluster answers."""
    program = HOME / "bin" / "kubectl"
    return PIDS.exists() and program.exists() and is_healthy(str(program), RUN / "admin.kubeconfig")


def _build(scripts: Path) -> None:
    """Build the parts and images of a cluster, unless they are there; wait for another process that does so."""
    if os.geteuid() != 0:
        raise NoClusterError("only root can start the machine's own cluster: set KUBECONFIG to another one")
    if not (HOME / "bin" / "kubelet").exists() and not shutil.which("go"):
        raise NoClusterError(
            "Go 1.25 or later is missing, to build the parts of the cluster with: set KUBECONFIG instead"
        )
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "build.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _script(scripts, "build.sh", _BUILD_SECONDS)
        _script(scripts, "images.sh", 600)


def _bring_up(scripts: Path) -> None:
    started_at = time.monotonic()
    _build(scripts)
    if PIDS.exists():  # what an earlier run left
        _script(scripts, "down.sh", 120)
    _script(scripts, "up.sh", _UP_SECONDS)
    print(f"cluster up after {time.monotonic() - started_at:.0f} s", flush=True)


def _script(scripts: Path, name: str, seconds: float) -> None:
    with (HOME / f"{name}.log").open("wb") as log:
        process = subprocess.run(
            ["bash", str(scripts / name)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=seconds,
            check=False,
        )
    if process.returncode:
        raise NoClusterError(f"{name} failed: {(HOME / f'{name}.log').read_text(errors='replace')[-500:].strip()}")


def _kubectl() -> str:
    program = shutil.which("kubectl") or shutil.which(str(HOME / "bin" / "kubectl"))
    if not program:
        raise NoClusterError("kubectl is missing: install it to use the cluster of KUBECONFIG")
    return program


def environment_of(cluster: Cluster) -> dict[str, str]:
    """Return what tells a command, and the tests in it, which cluster it is to use."""
    if cluster.is_own:  # its users find it by themselves, and count each other
        return dict(os.environ)
    ours = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "BINDERY_TEST_HOST": cluster.host,
        "BINDERY_TEST_REGISTRY": REGISTRY,
    }
    return {**os.environ, **ours}


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the cluster of the tests up for a command, or only build it.")
    parser.add_argument("verb", choices=["run", "build"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    code = 0
    try:
        if chosen.verb == "build":
            build()
            return
        with cluster() as the_cluster:
            print(f"KUBECONFIG={the_cluster.kubeconfig}", flush=True)
            command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
            code = subprocess.run(command, env=environment_of(the_cluster), check=False).returncode if command else 0
    except NoClusterError as error:
        print(f"no test on a cluster was run: {error}", flush=True)
        code = 1 if os.environ.get("CI") else 0
    raise SystemExit(code)


if __name__ == "__main__":
    main()
