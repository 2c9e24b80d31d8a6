"""The chart in a namespace of the tests' cluster, as an operator tries it with values that may not do."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster, Namespace
from tests.support.helm import Helm, HelmError, installed_helm
from tests.support.helm_release import CHART, merged

ELSEWHERE: dict[str, Any] = {
    "images": {"prefix": "registry.example.org/bindery/"},
    "serversUrl": "https://servers.example.org",
    "redis": {"bundled": False, "url": "redis://redis.example.org:6379/0"},
    "hub": {"bundled": False, "apiUrl": "http://hub.example.org:8081/hub/api/"},
    "registry": {"imagePrefix": "registry.example.org/binder/r2d-"},
    "engine": {"kind": "address", "address": "tcp://engine.example.org:2376"},
}
"""Values with all neighbours elsewhere, so that nothing needs a volume."""
NO_PODS: dict[str, Any] = {
    part: {"replicas": 0, "autoscaling": {"enabled": False}} for part in ("gateway", "resolver", "builder", "launcher")
} | {"worker": {"replicas": 0}}
"""Values with which no part has a pod."""


def in_one_namespace(namespace: Namespace) -> dict[str, Any]:
    """Return values with which builds and servers are in the release's namespace."""
    return {
        "builds": {"namespace": {"name": namespace.name}},
        "servers": {"namespace": {"name": namespace.name}},
    }


@dataclass
class ChartTrial:
    """Tries of the chart in one namespace, with `values` in addition to those of `ELSEWHERE`."""

    namespace: Namespace
    folder: Path
    _: KW_ONLY
    values: Mapping[str, Any] = field(default_factory=dict)
    kubeconfig: Path | None = None
    """Of who installs, if that is not the cluster's admin."""
    release: str = "trial"

    @property
    def cluster(self) -> Cluster:
        return self.namespace.cluster

    @property
    def helm(self) -> Helm:
        return installed_helm(self.kubeconfig or self.cluster.kubeconfig)

    def values_file(self, values: Mapping[str, Any]) -> Path:
        """Write the values of a try."""
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(merged(merged(ELSEWHERE, self.values), values)))
        return path

    def install(self, **values: Any) -> str:
        """Install, and wait for nothing; return what helm prints."""
        options = ("--values", str(self.values_file(values)))
        return self.helm.run("install", self.release, str(CHART), "-n", self.namespace.name, *options, seconds=120)

    def upgrade(self, **values: Any) -> str:
        """Upgrade, and wait for nothing; return what helm prints."""
        return self.helm.upgrade(
            self.release, CHART, "--values", str(self.values_file(values)), namespace=self.namespace.name
        )

    def uninstall(self) -> None:
        """Remove the release, if there is one."""
        self.helm.uninstall(self.release, "--ignore-not-found", "--wait", namespace=self.namespace.name)

    def refusal(self, **values: Any) -> str:
        """Return what helm says of values that it does not install. Fails the test if it would install them."""
        with pytest.raises(HelmError) as error:
            self._dry_run(values)
        return str(error.value)

    def problems(self, **values: Any) -> list[str]:
        """Return the sentences for which the chart is refused; none if it would be installed."""
        try:
            self._dry_run(values)
        except HelmError as error:
            said = str(error)
            assert "Bindery can't be installed like this:" in said, said
            return [line.removeprefix("- ") for line in said.splitlines() if line.startswith("- ")]
        return []

    def notes(self, **values: Any) -> str:
        """Return what helm would print after an installation."""
        return self._dry_run(values).partition("NOTES:\n")[2]

    def _dry_run(self, values: Mapping[str, Any]) -> str:
        options = ("--dry-run=server", "--values", str(self.values_file(values)))
        return self.helm.run("install", self.release, str(CHART), "-n", self.namespace.name, *options, seconds=60)

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Make objects in the namespace, or in the one that they name."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.kubectl("apply", "-n", self.namespace.name, "-f", "-", stdin=json.dumps(body))


@contextlib.contextmanager
def bare_namespace(cluster: Cluster, name: str, **labels: str) -> Iterator[Namespace]:
    """Make a namespace with nothing in it; it goes at the end, which is not waited for. `__` in a label is a slash."""
    named = {label.replace("__", "/").replace("_", "-"): value for label, value in labels.items()}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": named}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
    try:
        yield Namespace(cluster, name, "default")
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", is_checked=False)
