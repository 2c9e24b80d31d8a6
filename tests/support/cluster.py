"""A real Kubernetes for tests: the one that KUBECONFIG names, or one of this machine's own.

`cluster()` uses a healthy KUBECONFIG that is given, else the cluster of the scripts in `../shared/cluster` (or in
`BINDERY_TEST_CLUSTER_DIR`): used when it is up already, else built, started, and taken down at the end. What an earlier
run left half-dead is ended first, by the pids that it recorded. BINDERY_TEST_HOST is where the pods of a given cluster
reach this machine, and BINDERY_TEST_REGISTRY the registry that it pulls from (`tests/support/engine.py`). By hand:

    python -m tests.support.cluster run -- make test-cluster     # keeps one up for the length of a command
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import CHECKOUT
from tests.support.stack import eventually

HOME = Path(os.environ.get("K8S_HOME") or Path.home() / ".cache" / "dev-cluster")
RUN = HOME / "run"
PIDS = RUN / "pid"
HOST = "10.243.0.254"
"""This machine, as the pods of its own cluster see it."""
MANIFESTS = CHECKOUT / "deploy" / "kubernetes"
_BUILD_SECONDS, _UP_SECONDS = 3000, 240


class NoClusterError(Exception):
    """There is no cluster and none can be started; the message says in one line what is missing."""


@dataclass(frozen=True)
class Kind:
    """What a namespace is for: the manifest for it, the name that it has there, and the account that works in it."""

    manifest: Path
    namespace: str
    account: str


BUILDS = Kind(MANIFESTS / "builder.yaml", "bindery-builds", "bindery-builder")
SERVERS = Kind(MANIFESTS / "hub.yaml", "bindery-servers", "bindery-hub")


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `host` is where its pods reach this machine; `is_own` where its parts may be stopped."""

    kubeconfig: Path
    kubectl_program: str
    host: str
    is_own: bool

    def kubectl(self, *arguments: str, given: str = "", seconds: float = 60, is_checked: bool = True) -> str:
        """What a kubectl command prints."""
        done = subprocess.run(
            [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), f"--request-timeout={seconds:g}s", *arguments],
            input=given, capture_output=True, text=True, timeout=seconds + 10, check=False,
        )  # fmt: skip
        assert not is_checked or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def namespace(self, name: str, kind: Kind = BUILDS) -> Iterator["Namespace"]:
        """A namespace with what its manifest in deploy/kubernetes gives to who works there; it goes at the end."""
        self.kubectl("create", "namespace", name)
        try:
            self.kubectl("apply", "-f", "-", given=kind.manifest.read_text().replace(kind.namespace, name))
            eventually(lambda: self._has_account(name), f"the namespace {name} has its default service account")
            yield Namespace(self, name, kind.account)
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", is_checked=False)

    def _has_account(self, namespace: str) -> bool:
        return bool(self.kubectl("-n", namespace, "get", "serviceaccount", "default", "-o", "name", is_checked=False))

    # The parts of our own cluster

    def part(self, name: str) -> int:
        """The pid of a part, as it was recorded."""
        return int((PIDS / name).read_text())

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Stop a part (SIGSTOP) for the length of the block: connections stay open, and nobody answers."""
        assert self.is_own, "only the parts of our own cluster may be stopped"
        os.kill(self.part(name), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.part(name), signal.SIGCONT)

    @contextlib.contextmanager
    def killed(self, name: str) -> Iterator[None]:
        """Kill a part (SIGKILL) for the length of the block, and start it again with the same command."""
        assert self.is_own, "only the parts of our own cluster may be killed"
        pid = self.part(name)
        command = [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _lives(pid), f"{name} is gone")
        try:
            yield
        finally:
            enter = ["nsenter", f"--net=/run/netns/{os.environ.get('K8S_NS', 'k8s')}", "--", *command]
            with (RUN / "log" / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    enter, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            (PIDS / name).write_text(str(process.pid))
            eventually(self.is_ready, f"{name} is back", 60)

    def is_ready(self) -> bool:
        """Whether the API server answers."""
        return _is_healthy(self.kubectl_program, self.kubeconfig)


@dataclass(frozen=True)
class Namespace:
    """A namespace of a test's own; `account` is who works there."""

    cluster: Cluster
    name: str
    account: str

    def kubectl(self, *arguments: str, given: str = "", is_checked: bool = True) -> str:
        """What a kubectl command in this namespace prints."""
        return self.cluster.kubectl("-n", self.name, *arguments, given=given, is_checked=is_checked)

    def objects(self, *kinds: str, build_id: str = "") -> list[dict[str, Any]]:
        """The objects of builds, or of one build."""
        selector = f"bindery/build-id={build_id}" if build_id else "bindery/build-id"
        found = json.loads(self.kubectl("get", ",".join(kinds), "-l", selector, "-o", "json"))
        items: list[dict[str, Any]] = found["items"]
        return items

    def names(self, *kinds: str, build_id: str = "") -> list[str]:
        """Kind and name of the objects of builds."""
        return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in self.objects(*kinds, build_id=build_id))

    def everything(self) -> frozenset[str]:
        """Kind and name of all that there is, but for events: the cluster's own log, which expires."""
        kinds = self.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
        return frozenset(self.kubectl("get", listed, "-o", "name").split())

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig with the rights that the manifest gives to who works here, and no others."""
        admin = yaml.safe_load(self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "yaml"))
        token = self.kubectl("create", "token", self.account, "--duration=24h").strip()
        admin["users"] = [{"name": self.account, "user": {"token": token}}]
        admin["contexts"][0]["context"] |= {"user": self.account, "namespace": self.name}
        path = folder / f"{self.name}.kubeconfig"
        path.write_text(yaml.safe_dump(admin))
        path.chmod(0o600)
        return path

    def secret(self, name: str, key: str, content: str) -> None:
        """Make a Secret."""
        data = {key: base64.b64encode(content.encode()).decode()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        self.kubectl("apply", "-f", "-", given=json.dumps(body))


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Keep a cluster there for the length of the block. Raises `NoClusterError`."""
    if given := os.environ.get("KUBECONFIG"):
        program = _kubectl()
        if not _is_healthy(program, Path(given)):
            raise NoClusterError(f"the cluster of KUBECONFIG={given} does not answer")
        yield Cluster(
            Path(given),
            program,
            os.environ.get("BINDERY_TEST_HOST", HOST),
            is_own=Path(given) == RUN / "admin.kubeconfig",
        )
        return
    scripts = Path(os.environ.get("BINDERY_TEST_CLUSTER_DIR") or CHECKOUT.parent / "shared" / "cluster")
    if not (scripts / "up.sh").exists():
        raise NoClusterError(f"no cluster: set KUBECONFIG to one, or BINDERY_TEST_CLUSTER_DIR (none in {scripts})")
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
            yield Cluster(RUN / "admin.kubeconfig", str(HOME / "bin" / "kubectl"), HOST, is_own=True)
        finally:
            if (RUN / "of-the-tests").exists():  # else it was up before
                with contextlib.suppress(BlockingIOError):  # somebody uses it still, and takes it down later
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _script(scripts, "down.sh", 120)


def is_up() -> bool:
    """Whether the machine's own cluster answers."""
    program = HOME / "bin" / "kubectl"
    return PIDS.exists() and program.exists() and _is_healthy(str(program), RUN / "admin.kubeconfig")


def _bring_up(scripts: Path) -> None:
    if os.geteuid() != 0:
        raise NoClusterError("only root can start the machine's own cluster: set KUBECONFIG to another one")
    if not (HOME / "bin" / "kubelet").exists() and not shutil.which("go"):
        raise NoClusterError(
            "Go 1.25 or later is missing, to build the parts of the cluster with: set KUBECONFIG instead"
        )
    if PIDS.exists():  # what an earlier run left
        _script(scripts, "down.sh", 120)
    begun = time.monotonic()
    _script(scripts, "build.sh", _BUILD_SECONDS)
    _script(scripts, "images.sh", 600)
    _script(scripts, "up.sh", _UP_SECONDS)
    print(f"cluster up after {time.monotonic() - begun:.0f} s", flush=True)


def _script(scripts: Path, name: str, seconds: float) -> None:
    with (HOME / f"{name}.log").open("wb") as log:
        done = subprocess.run(
            ["bash", str(scripts / name)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=seconds,
            check=False,
        )
    if done.returncode:
        raise NoClusterError(f"{name} failed: {(HOME / f'{name}.log').read_text(errors='replace')[-500:].strip()}")


def _kubectl() -> str:
    found = shutil.which("kubectl") or shutil.which(str(HOME / "bin" / "kubectl"))
    if not found:
        raise NoClusterError("kubectl is missing: install it to use the cluster of KUBECONFIG")
    return found


def _is_healthy(kubectl: str, kubeconfig: Path) -> bool:
    command = [kubectl, "--kubeconfig", str(kubeconfig), "--request-timeout=10s", "get", "--raw", "/readyz"]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the cluster of the tests up for the length of a command.")
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    try:
        with cluster() as found:
            print(f"KUBECONFIG={found.kubeconfig}", flush=True)
            command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
            code = subprocess.run(command, check=False).returncode if command else 0
    except NoClusterError as error:
        print(f"no test on a cluster was run: {error}", flush=True)
        code = 1 if os.environ.get("CI") else 0
    raise SystemExit(code)


if __name__ == "__main__":
    main()
