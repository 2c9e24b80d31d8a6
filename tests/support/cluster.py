"""The Kubernetes cluster of the tests, and the namespaces that they create. `cluster_start.py` finds or starts it."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import CHECKOUT
from tests.support.polling import eventually

HOME = Path(os.environ.get("K8S_HOME") or Path.home() / ".cache" / "dev-cluster")
RUN = HOME / "run"
PIDS = RUN / "pid"
HOST = "10.243.0.254"
"""This machine, as the pods of its own cluster see it."""
MANIFESTS = CHECKOUT / "deploy" / "kubernetes"


@dataclass(frozen=True)
class Kind:
    """What a namespace is for: the manifest for it, the name that it has there, and the account that works in it."""

    manifest: Path
    namespace: str
    account: str


BUILDS = Kind(MANIFESTS / "builder.yaml", "bindery-builds", "bindery-builder")
SERVERS = Kind(MANIFESTS / "hub.yaml", "bindery-servers", "bindery-hub")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that answers. `host` is where its pods reach this machine; `is_own` where its parts may be stopped."""

    kubeconfig: Path
    kubectl_program: str
    host: str
    is_own: bool

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60, is_checked: bool = True) -> str:
        """Return what a kubectl command prints."""
        process = subprocess.run(
            [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), f"--request-timeout={seconds:g}s", *arguments],
            input=stdin, capture_output=True, text=True, timeout=seconds + 10, check=False,
        )  # fmt: skip
        assert not is_checked or process.returncode == 0, f"kubectl {' '.join(arguments)}: {process.stderr}"
        return process.stdout

    def refusal_of(self, *arguments: str, seconds: float = 60) -> str:
        """Return the errors of a kubectl command that must fail."""
        process = subprocess.run(
            [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), *arguments],
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert process.returncode, f"kubectl {' '.join(arguments)} should have failed: {process.stdout}"
        return process.stderr

    def has(self, kind: str, name: str) -> bool:
        """Return whether there is an object of this name, in no namespace."""
        return bool(self.kubectl("get", kind, name, "--ignore-not-found", "-o", "name"))

    @contextlib.contextmanager
    def namespace(self, name: str, kind: Kind = BUILDS) -> Iterator["Namespace"]:
        """Make a namespace with what its manifest in deploy/kubernetes gives to its users; it goes at the end."""
        self.kubectl("create", "namespace", name)
        try:
            self.kubectl("apply", "-f", "-", stdin=kind.manifest.read_text().replace(kind.namespace, name))
            eventually(lambda: self._has_account(name), f"the namespace {name} has its default service account")
            yield Namespace(self, name, kind.account)
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", is_checked=False)

    def _has_account(self, namespace: str) -> bool:
        return bool(self.kubectl("-n", namespace, "get", "serviceaccount", "default", "-o", "name", is_checked=False))

    # The parts of our own cluster

    def part(self, name: str) -> int:
        """Return the pid of a part, as it was recorded."""
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

    @contextlib.contextmanager
    def pulls_from(self, registry: str, address: str) -> Iterator[None]:
        """Let the node pull images of a registry from an address (http) for the length of the block."""
        assert self.is_own, "only nodes of our own cluster may be told where registries are"
        folder = RUN / "certs.d" / registry
        folder.mkdir()
        (folder / "hosts.toml").write_text(
            f'server = "{address}"\n[host."{address}"]\ncapabilities = ["pull", "resolve"]\n'
        )
        try:
            yield
        finally:
            shutil.rmtree(folder)

    def is_ready(self) -> bool:
        """Return whether the API server answers."""
        return is_healthy(self.kubectl_program, self.kubeconfig)


@dataclass(frozen=True)
class Namespace:
    """A namespace of a test's own; `account` is who works there."""

    cluster: Cluster
    name: str
    account: str

    def kubectl(self, *arguments: str, stdin: str = "", is_checked: bool = True) -> str:
        """Return what a kubectl command in this namespace prints."""
        return self.cluster.kubectl("-n", self.name, *arguments, stdin=stdin, is_checked=is_checked)

    def objects(self, *kinds: str, build_id: str = "") -> list[dict[str, Any]]:
        """Return the objects of builds, or of one build."""
        selector = f"bindery/build-id={build_id}" if build_id else "bindery/build-id"
        listing = json.loads(self.kubectl("get", ",".join(kinds), "-l", selector, "-o", "json"))
        items: list[dict[str, Any]] = listing["items"]
        return items

    def names(self, *kinds: str, build_id: str = "") -> list[str]:
        """Kind and name of the objects of builds."""
        return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in self.objects(*kinds, build_id=build_id))

    def kubeconfig(self, folder: Path) -> Path:
        """Return a kubeconfig with the rights that the manifest gives to who works here, and no others."""
        admin = yaml.safe_load(self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "yaml"))
        token = self.kubectl("create", "token", self.account, "--duration=24h").strip()
        admin["users"] = [{"name": self.account, "user": {"token": token}}]
        admin["contexts"][0]["context"] |= {"user": self.account, "namespace": self.name}
        path = folder / f"{self.name}.kubeconfig"
        path.write_text(yaml.safe_dump(admin))
        path.chmod(0o600)
        return path

    def grant(self, account: str, rules: list[dict[str, Any]], *, role: str) -> None:
        """Give an account of this namespace a Role of its own, beside what it has."""
        group = "rbac.authorization.k8s.io"
        fields: dict[str, dict[str, Any]] = {
            "Role": {"rules": rules},
            "RoleBinding": {
                "roleRef": {"apiGroup": group, "kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.name}],
            },
        }
        for kind, own in fields.items():
            body = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": role}, **own}
            self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def make_owner(self, name: str) -> str:
        """Make a ConfigMap, which whoever works here may get, to be the owner of other objects; return its uid."""
        rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}
        self.grant(self.account, [rule], role=f"owner-{name}")
        return self.kubectl("create", "configmap", name, "-o", "jsonpath={.metadata.uid}")

    def secret(self, name: str, key: str, content: str) -> None:
        """Make a Secret."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(secret(name, **{key: content})))


def secret(name: str, **data: str) -> dict[str, Any]:
    """Return the manifest of a Secret."""
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def is_healthy(kubectl: str, kubeconfig: Path) -> bool:
    command = [kubectl, "--kubeconfig", str(kubeconfig), "--request-timeout=10s", "get", "--raw", "/readyz"]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
