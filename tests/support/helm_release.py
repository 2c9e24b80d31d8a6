"""A release of the chart on the cluster of the tests: its images, values and volumes, and its life by helm."""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.cluster import Cluster
from tests.support.compose_images import StandIns
from tests.support.engine import REGISTRY, Engine
from tests.support.helm import HelmError, installed_helm
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.release_objects import ReleaseObjects
from tests.support.service_images import IMAGES, TAG
from tests.support.tcp_proxy import relay

CHART = CHECKOUT / "deploy" / "helm" / "bindery"
EXAMPLES = CHART / "examples"
IMAGES_PREFIX = f"{REGISTRY}/bindery-images/"
CLAIMS = ("redis", "hub", "registry")
"""Parts that have a volume."""
INSTALL_SECONDS = 240
DELETE_SECONDS = 120
NUMBERS = itertools.count(1)


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


class HelmRelease(ReleaseObjects):
    """One release in a namespace of its own, and, if its values say so, with hub, Redis and registry of its own.

    Its name is that of its namespace, so that no other release on the cluster has the same. `values` are merged over
    those that every release of the tests needs. Volumes are folders of this machine, in `folder`.
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
        namespace = namespace or f"bindery-helm-{os.getpid()}-{next(NUMBERS)}"
        super().__init__(cluster=cluster, namespace=namespace, name=namespace)
        self.folder = folder
        self.engine = engine
        self.port, self.registry_port = free_ports(2, avoid=set())
        self._arguments: tuple[str, ...] = ()
        self._relays = contextlib.ExitStack()
        self.values = merged(self._base(images), values)

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
        """Uninstall, and remove namespaces and volumes; a step that fails keeps no other from being done."""
        with contextlib.ExitStack() as steps:  # the last comes first
            steps.callback(shutil.rmtree, self.folder / "volumes", ignore_errors=True)
            steps.callback(self._delete, "persistentvolume", *(self.volume(part) for part in CLAIMS))
            steps.callback(self._delete, "namespace", self.namespace, self.builds, self.servers)
            steps.callback(self.uninstall, "--ignore-not-found")
            steps.callback(self._relays.close)
            steps.callback(self.client.close)

    def _delete(self, kind: str, *names: str) -> None:
        """Delete objects that are in no namespace, and wait until they are gone."""
        self.cluster.kubectl("delete", kind, *names, "--ignore-not-found", "--wait=false")
        eventually(
            lambda: not any(self.cluster.has(kind, name) for name in names), f"no {kind} is left", DELETE_SECONDS
        )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with changes, as Helm merges files of values."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _claim(part: str, release: HelmRelease) -> dict[str, str]:
    return {"storageClass": "-", "volumeName": release.volume(part)}
