"""A Kubernetes in containers, by kind or k3d: created for the length of a run, and deleted at its end.

Both run their node as a container of the tests' engine. So that the tests meet the same as on any other cluster,

- the node gets the engine's socket, for the builds that pods start in the engine;
- the node pulls from the tests' registry under the name that the engine knows it by;
- pods reach this machine at the gateway of the containers' network, and this machine reaches pods by a route through
  the node (which takes root, or sudo without a password).

Sources: kind.sigs.k8s.io/docs/user (quick start, configuration, local registry), k3d.io/stable (commands, registries).
"""

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.engine import OUR_REGISTRY, REGISTRY, Engine
from tests.support.tcp_proxy import relay

NAME = "bindery-tests"
_CREATE_SECONDS = 600


class ContainerClusterError(Exception):
    """The cluster can't be made; the message says in one line why."""


@dataclass(frozen=True)
class ContainerCluster:
    """A cluster that answers; `host` is this machine as its pods and its node see it."""

    kubeconfig: Path
    host: str


def installed_tool() -> str | None:
    """Return `kind` or `k3d`, whichever is installed; kind if both are."""
    return next((tool for tool in ("kind", "k3d") if shutil.which(tool)), None)


@contextlib.contextmanager
def container_cluster(tool: str, engine: Engine, folder: Path) -> Iterator[ContainerCluster]:
    """Keep a cluster for the length of the block; its files go into `folder`. Raise `ContainerClusterError`."""
    if not shutil.which("kubectl"):
        raise ContainerClusterError(f"{tool} is installed, but kubectl is missing")
    if engine.memory_bytes:
        raise ContainerClusterError(
            f"the engine that the tests start has {engine.memory_bytes >> 20} MiB for all containers, too little for a"
            " node: start Docker, or name an engine in DOCKER_HOST"
        )
    folder.mkdir(parents=True, exist_ok=True)
    create = {"kind": _kind, "k3d": _k3d}[tool]
    with create(engine, folder) as running:
        yield running


@contextlib.contextmanager
def _kind(engine: Engine, folder: Path) -> Iterator[ContainerCluster]:
    kubeconfig = folder / "kubeconfig"
    config = folder / "kind.yaml"
    config.write_text(yaml.safe_dump(kind_config(engine.host)))
    node = f"{NAME}-control-plane"
    environ = {"DOCKER_HOST": engine.host, "KUBECONFIG": str(kubeconfig)}
    delete = ["kind", "delete", "cluster", "--name", NAME]

    _run(delete, environ)  # what an earlier run left; it is no error if there is none
    try:
        wait = ["--kubeconfig", str(kubeconfig), "--config", str(config), "--wait", "180s"]
        _run(["kind", "create", "cluster", "--name", NAME, *wait], environ)
        host = _gateway(engine, "kind")
        _let_node_pull(engine, node, host)
        images = _tagged_images(engine)
        _run(["kind", "load", "docker-image", *images, "--name", NAME], environ)
        with _registry_at(host), _route_to_pods(engine, node, environ):
            yield ContainerCluster(kubeconfig, host)
    finally:
        _run(delete, environ)


def kind_config(engine_host: str) -> dict[str, object]:
    """Return kind's configuration: one node, with the engine's socket if it has one."""
    node: dict[str, object] = {"role": "control-plane"}
    if socket := _socket_of(engine_host):
        node["extraMounts"] = [{"hostPath": socket, "containerPath": socket}]
    certificates = '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [node],
        "containerdConfigPatches": [certificates],
    }


def _let_node_pull(engine: Engine, node: str, host: str) -> None:
    """Tell a node's containerd where the tests' registry is; it reads such a file without a restart."""
    folder = f"/etc/containerd/certs.d/{REGISTRY}"
    target = f"{folder}/hosts.toml"
    _run(["docker", "exec", node, "mkdir", "-p", folder], {"DOCKER_HOST": engine.host})
    content = f'[host."http://{_seen_from_node(host)}"]\n  capabilities = ["pull", "resolve"]\n'
    _run(["docker", "exec", "--interactive", node, "cp", "/dev/stdin", target], {"DOCKER_HOST": engine.host}, content)


@contextlib.contextmanager
def _k3d(engine: Engine, folder: Path) -> Iterator[ContainerCluster]:
    kubeconfig = folder / "kubeconfig"
    registries = folder / "registries.yaml"
    network = f"k3d-{NAME}"
    environ = {"DOCKER_HOST": engine.host, "KUBECONFIG": str(kubeconfig)}
    delete = ["k3d", "cluster", "delete", NAME]

    _run(delete, environ, is_checked=False)  # what an earlier run left
    engine.docker("network", "rm", network, is_checked=False)
    engine.docker("network", "create", network)  # now, because the cluster's registry needs the network's gateway
    try:
        host = _gateway(engine, network)
        mirrors = {REGISTRY: {"endpoint": [f"http://{_seen_from_node(host)}"]}}
        registries.write_text(yaml.safe_dump({"mirrors": mirrors}))

        options = ["--network", network, "--registry-config", str(registries)]
        if socket := _socket_of(engine.host):
            options += ["--volume", f"{socket}:{socket}@server:0"]
        options += ["--k3s-arg", "--disable=traefik@server:0", "--no-lb", "--wait", "--timeout", "180s"]
        options += ["--kubeconfig-update-default=false", "--kubeconfig-switch-context=false"]
        _run(["k3d", "cluster", "create", NAME, *options], environ)

        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(_run(["k3d", "kubeconfig", "get", NAME], environ))
        _run(["k3d", "image", "import", *_tagged_images(engine), "--cluster", NAME], environ)
        with _registry_at(host), _route_to_pods(engine, f"k3d-{NAME}-server-0", environ):
            yield ContainerCluster(kubeconfig, host)
    finally:
        _run(delete, environ, is_checked=False)
        engine.docker("network", "rm", network, is_checked=False)


def _socket_of(engine_host: str) -> str | None:
    return engine_host.removeprefix("unix://") if engine_host.startswith("unix://") else None


def _seen_from_node(host: str) -> str:
    """Return the address of the tests' registry for a node: our own listens on the loopback of this machine."""
    return REGISTRY.replace("127.0.0.1", host) if REGISTRY == OUR_REGISTRY else REGISTRY


def _tagged_images(engine: Engine) -> list[str]:
    """Name the images of the tests as the pods ask for them, and return these names."""
    names = [f"{REGISTRY}/{image}" for image in (engine.builder, engine.jupyter)]
    for image, name in zip((engine.builder, engine.jupyter), names, strict=True):
        engine.docker("tag", image, name)
    return names


def _gateway(engine: Engine, network: str) -> str:
    """Return the IPv4 address of this machine in a network of the engine."""
    networks = json.loads(engine.docker("network", "inspect", "--format", "{{json .IPAM.Config}}", network))
    for entry in networks:
        gateway = str(entry.get("Gateway", "")).partition("/")[0]
        if gateway and ipaddress.ip_address(gateway).version == 4:
            return gateway
    raise ContainerClusterError(f"the engine's network {network} has no IPv4 gateway: {networks}")


@contextlib.contextmanager
def _registry_at(host: str) -> Iterator[None]:
    """Let nodes and pods reach our own registry, which listens on the loopback; another one needs no help."""
    if REGISTRY != OUR_REGISTRY:
        yield
        return
    address, _, port = OUR_REGISTRY.partition(":")
    with relay((address, int(port)), listen=(host, int(port))):
        yield


@contextlib.contextmanager
def _route_to_pods(engine: Engine, node: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Let this machine reach pods by their own addresses, through the node."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    address = engine.docker("inspect", "--format", template, node).split()[0]
    pods = _run(["kubectl", "get", "nodes", "--output", "jsonpath={.items[0].spec.podCIDR}"], environ).strip()
    _run(_as_root(["ip", "route", "replace", pods, "via", address]), {})
    try:
        yield
    finally:
        _run(_as_root(["ip", "route", "del", pods, "via", address]), {}, is_checked=False)


def _as_root(command: Sequence[str]) -> list[str]:
    return list(command) if os.geteuid() == 0 else ["sudo", "--non-interactive", *command]


def _run(command: Sequence[str], environ: Mapping[str, str], content: str = "", *, is_checked: bool = True) -> str:
    """Return what a command prints. Raise `ContainerClusterError` with its last words."""
    try:
        process = subprocess.run(
            command, env={**os.environ, **environ}, input=content, capture_output=True, text=True,
            timeout=_CREATE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContainerClusterError(f"{' '.join(command[:3])}: {error}") from error
    if is_checked and process.returncode:
        raise ContainerClusterError(f"{' '.join(command[:3])} failed: {process.stderr.strip()[-500:]}")
    return process.stdout
