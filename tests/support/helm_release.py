"""A release of the chart on the cluster of the tests: its images, volumes and addresses, and what it has made."""

import base64
import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from deploy.jupyterhub.labels import installation_label
from tests.support.cluster import Cluster
from tests.support.compose_images import StandIns
from tests.support.engine import REGISTRY, Engine
from tests.support.helm import HelmError, installed_helm
from tests.support.installed import Installed
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.service_images import IMAGES, TAG
from tests.support.tcp_proxy import relay

CHART = CHECKOUT / "deploy" / "helm" / "bindery"
EXAMPLES = CHART / "examples"
IMAGES_PREFIX = f"{REGISTRY}/bindery-images/"
CLAIMS = ("redis", "hub", "registry")
"""Parts that have a volume."""
INSTALL_SECONDS = 240
IN_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def push_images(engine: Engine, stand_ins: StandIns | None = None) -> dict[str, Any]:
    """Push the images of an installation to the registry of the tests; return the values that name them.

    Without stand-ins these are the services' alone.
    """
    names = {image: f"localhost/bindery/{image}:{TAG}" for image in IMAGES}
    others: dict[str, str] = {}
    if stand_ins:
        others = {"redis": stand_ins.redis, "traefik": stand_ins.traefik, "registry": stand_ins.registry}
    pushed = {
        **{f"{IMAGES_PREFIX}{image}:{TAG}": name for image, name in names.items()},
        **{f"{IMAGES_PREFIX}{part}:{TAG}": name for part, name in others.items()},
    }
    for target, source in pushed.items():
        engine.docker("tag", source, target)
        engine.docker("push", "--quiet", target, seconds=300)
    # The tag is always the same, and a node that has run it before would keep to what it was then.
    policy = {"prefix": IMAGES_PREFIX, "tag": TAG, "pullPolicy": "Always"}
    return policy | {part: f"{IMAGES_PREFIX}{part}:{TAG}" for part in others}


class HelmRelease(Installed):
    """One release in a namespace of its own, and, if its values say so, with hub, Redis and registry of its own.

    `values` are merged over those that every release of the tests needs. Volumes are folders of this machine, in
    `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cluster: Cluster,
        engine: Engine,
        images: Mapping[str, Any],
        namespace: str = "",
        **values: Any,
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.engine = engine
        self.namespace = namespace or f"bindery-helm-{os.getpid()}"
        self.name = "bindery"
        self.port, self.registry_port = free_ports(2, avoid=set())
        self._arguments: tuple[str, ...] = ()
        self._relays = contextlib.ExitStack()
        self.values = merged(self._base(images), values)
        super().__init__()

    def _base(self, images: Mapping[str, Any]) -> dict[str, Any]:
        socket = self.engine.host.removeprefix("unix://")
        is_socket = socket != self.engine.host
        engine = {"kind": "socket", "socket": socket} if is_socket else {"kind": "address", "address": socket}
        return {
            "images": dict(images),
            "publicUrl": f"http://127.0.0.1:{self.port}",
            "serversUrl": f"http://localhost:{self.port}",
            "allowedNetworks": [f"{self.cluster.host}/32"],
            "engine": engine,
            "registry": {"bundled": True, "hostPort": self.registry_port, "persistence": _claim("registry", self)},
            "redis": {"persistence": _claim("redis", self)},
            "hub": {"persistence": _claim("hub", self)},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # Helm

    def helm(self, *arguments: str) -> str:
        """Run helm in the release's namespace; return its output. Fails with its error and the cluster's state."""
        helm = installed_helm(self.cluster.kubeconfig)
        try:
            return helm.run(*arguments, "--namespace", self.namespace, seconds=INSTALL_SECONDS + 30)
        except HelmError as error:
            raise AssertionError(f"helm {' '.join(arguments)}: {error}\n{self.state()}") from error

    def change(self, *values: Mapping[str, Any]) -> None:
        """Merge more values over its own, for the next installation or upgrade."""
        for more in values:
            self.values = merged(self.values, more)

    def values_file(self, **values: Any) -> Path:
        """Write the values, with some changed."""
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(merged(self.values, values)))
        return path

    def install(self, *arguments: str) -> Self:
        """Make namespace, unless it is there, and volumes, install, and wait until all is ready.

        Arguments come before the values.
        """
        self._arguments = arguments
        if not self.cluster.has("namespace", self.namespace):
            self.cluster.kubectl("create", "namespace", self.namespace)
        self.make_volumes()
        self.helm(
            "install", self.name, str(CHART), *arguments, "--values", str(self.values_file()), "--wait",
            f"--timeout={INSTALL_SECONDS}s",
        )  # fmt: skip
        self.open_relays()
        return self

    def upgrade(self, **values: Any) -> None:
        """Change values for good, and wait until all pods are new."""
        self.values = merged(self.values, values)
        self.helm(
            "upgrade", self.name, str(CHART), *self._arguments, "--values", str(self.values_file()), "--wait",
            f"--timeout={INSTALL_SECONDS}s",
        )  # fmt: skip

    def uninstall(self, *arguments: str) -> str:
        """Remove the release, and wait until its objects are gone; return what helm prints."""
        return self.helm("uninstall", self.name, "--wait", f"--timeout={INSTALL_SECONDS}s", *arguments)

    def make_volumes(self) -> None:
        """Make a volume for each claim, a folder of the node: the cluster has no storage class."""
        for part in filter(self.has, CLAIMS):
            folder = self.folder / "volumes" / part
            folder.mkdir(parents=True)
            folder.chmod(0o777)  # of hostPath no group is changed
            body = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": self.volume(part)},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": "50Gi"},
                    "hostPath": {"path": str(folder)},
                    "persistentVolumeReclaimPolicy": "Retain",
                    # For nobody else's claim that names no class either.
                    "claimRef": {"namespace": self.namespace, "name": f"data-{self.name}-{part}-0"},
                },
            }
            self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def volume(self, part: str) -> str:
        """Return the name of a part's volume."""
        return f"{self.namespace}-{part}"

    def open_relays(self) -> None:
        """Let this machine reach the proxy, and its engine the registry, as a node's own loopback would."""
        ways = {self.port: (self.address("proxy" if self.has("hub") else "gateway"), 80)}
        if self.has("registry"):
            ways[self.registry_port] = (self.address("registry"), 5000)
        for port, way in ways.items():
            self._relays.enter_context(relay(way, listen=("127.0.0.1", port)))

    def remove(self) -> None:
        """Uninstall, and remove the namespaces and the volumes."""
        self.client.close()
        self._relays.close()
        self.uninstall("--ignore-not-found")
        for namespace in (self.namespace, self.builds, self.servers):
            self.cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", seconds=120, is_checked=False)
        self.remove_volumes()

    def remove_volumes(self) -> None:
        """Remove the volumes, and what is in them."""
        for part in CLAIMS:
            self.cluster.kubectl("delete", "persistentvolume", self.volume(part), "--ignore-not-found")
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)

    # What there is

    def has(self, part: str) -> bool:
        """Return whether it has a hub, a Redis or a registry of its own."""
        return bool(self.values[part].get("bundled", True))

    @property
    def builds(self) -> str:
        """The namespace of builds."""
        return f"{self.namespace}-builds"

    @property
    def servers(self) -> str:
        """The namespace of servers."""
        return f"{self.namespace}-servers"

    def kubectl(self, *arguments: str, namespace: str = "", stdin: str = "", is_checked: bool = True) -> str:
        """Return what a kubectl command prints, in the release's namespace unless another is named."""
        return self.cluster.kubectl(
            "-n", namespace or self.namespace, *arguments, stdin=stdin, seconds=120, is_checked=is_checked
        )

    def objects(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        chosen = ["--selector", selector] if selector else []
        listing = json.loads(self.kubectl("get", kind, "-o", "json", *chosen, namespace=namespace))
        items: list[dict[str, Any]] = listing["items"]
        return items

    def pods(self, part: str) -> list[dict[str, Any]]:
        """Return the pods of a part."""
        return self.objects("pods", selector=f"app.kubernetes.io/component={part}")

    def address(self, part: str) -> str:
        """Return the address of a part's Service, which this machine reaches."""
        return self.kubectl("get", "service", f"{self.name}-{part}", "-o", "jsonpath={.spec.clusterIP}")

    @cached_property
    def secret(self) -> dict[str, str]:
        """What the services have of the Secret."""
        return self.read_secret()

    def read_secret(self) -> dict[str, str]:
        """Return what the Secret has now, the chart's or one of the tests' own."""
        name = self.values.get("secrets", {}).get("existing") or self.name
        data = json.loads(self.kubectl("get", "secret", name, "-o", "jsonpath={.data}"))
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def secret_of(self, name: str) -> str:
        return self.secret[name]

    def made(self) -> frozenset[str]:
        """Return the names of all that hub and workers have made: pods, Jobs and Secrets of builds and of servers."""
        installation_id = self.secret["installation-id"]
        selectors = {
            self.builds: "bindery/build-id",
            self.servers: f"bindery/installation={installation_label(installation_id)}",
        }
        names: set[str] = set()
        for namespace, selector in selectors.items():
            kinds = "pods,secrets,jobs"
            listed = self.kubectl("get", kinds, "--selector", selector, "-o", "name", namespace=namespace)
            names |= {f"{namespace} {name}" for name in listed.split()}
        return frozenset(names)

    def everything(self, namespace: str) -> set[str]:
        """Return kind and name of all in a namespace, but for what every namespace has and the log of events."""
        kinds = self.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
        return set(self.kubectl("get", listed, "-o", "name", namespace=namespace).split()) - IN_EVERY_NAMESPACE

    def state(self) -> str:
        """Return what an operator looks at first."""
        kubectl = self.cluster.kubectl
        text = kubectl("get", "pods", "--all-namespaces", "-o", "wide", is_checked=False)
        for namespace in (self.namespace, self.builds, self.servers):
            warnings = ("get", "events", "--field-selector", "type=Warning", "--sort-by", ".lastTimestamp")
            text += kubectl("-n", namespace, *warnings, is_checked=False)
        selector = f"app.kubernetes.io/instance={self.name}"
        return text + kubectl(
            "-n", self.namespace, "logs", "--selector", selector, "--prefix", "--tail", "12", "--all-containers",
            is_checked=False,
        )  # fmt: skip

    # What the services say

    def until_nobody_is_there(self) -> None:
        """Delete every user of the hub with its servers."""

        def is_empty() -> bool:
            users = self.hub_users()
            for name in users:
                self.delete_hub_user(name)
            return not users

        eventually(is_empty, "no user is left on the hub", 90)

    def until_ready(self, *parts: str, seconds: float = 120) -> None:
        """Wait until all pods of parts are ready, and none is about to end."""

        def unready() -> list[str]:
            return [
                pod["metadata"]["name"]
                for part in parts
                for pod in self.pods(part)
                if "deletionTimestamp" in pod["metadata"] or not is_ready(pod)
            ]

        eventually(lambda: not unready(), f"{', '.join(parts)} ready", seconds)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod takes requests."""
    conditions = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with changes, as Helm merges files of values."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _claim(part: str, release: HelmRelease) -> dict[str, str]:
    return {"storageClass": "-", "volumeName": release.volume(part)}
