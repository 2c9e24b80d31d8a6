"""What a release of the chart has made on the cluster, and what its parts say: all that a test asks of it."""

import base64
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from deploy.jupyterhub.labels import installation_label
from tests.support.cluster import Cluster
from tests.support.installed import SERVICES, Installed
from tests.support.polling import eventually

PARTS = (*SERVICES, "hub", "proxy", "redis", "registry")
"""Parts of a release with hub, Redis and registry of its own."""
IN_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


class ReleaseObjects(Installed):
    """The objects of one release; `values` are those that it has been given, in addition to the chart's own."""

    def __init__(self, *, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = name
        self.values: dict[str, Any] = {}
        super().__init__()

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

    def unready(self, *parts: str) -> list[str]:
        """Return which pods of parts take no requests or are about to end, and which of the parts have no pod."""
        names: list[str] = []
        for part in parts:
            pods = self.pods(part)
            names += [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
            names += [pod["metadata"]["name"] for pod in pods if not is_ready(pod)]
            names += [] if pods else [f"any {part}"]
        return names

    def until_ready(self, *parts: str, seconds: float = 120) -> None:
        """Wait until each part has pods, all of them are ready, and none is about to end."""
        eventually(lambda: not self.unready(*parts), f"{', '.join(parts)} ready", seconds)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod takes requests."""
    conditions = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
