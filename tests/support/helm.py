"""Helm, as an operator types it, and the manifests that it renders."""

import os
import shutil
import subprocess
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import HOME

Manifest = dict[str, Any]
"""An object of Kubernetes, as it is in YAML."""

_KUBERNETES = "1.34.0"
"""What is rendered for unless a test says otherwise: what helm takes for granted depends on how it was built."""
_RENDER_SECONDS = 60
_INSTALL_SECONDS = 600


class NoHelmError(Exception):
    """There is no helm; the message says where it was looked for."""


class HelmError(Exception):
    """A command of helm failed; the message is what it wrote to stderr."""


@dataclass(frozen=True, kw_only=True)
class Helm:
    """A helm program. The commands that change a cluster need its `kubeconfig`; to render and to lint needs none."""

    program: str
    kubeconfig: Path | None = None

    def template(
        self,
        chart: Path,
        *,
        values_files: Sequence[Path] = (),
        values: Mapping[str, str] | None = None,
        release: str = "bindery",
        namespace: str = "bindery",
        kube_version: str = _KUBERNETES,
        api_versions: Sequence[str] = (),
    ) -> list[Manifest]:
        """Return what a release would consist of, in the order in which helm would create it. Raise `HelmError`.

        `values` are those of `--set`: {"hub.enabled": "false"}. `api_versions` are what the cluster has beside
        Kubernetes' own ("keda.sh/v1alpha1/ScaledObject"). Hooks and the manifests of `crds/` are included.
        """
        command = ["template", release, str(chart), "--namespace", namespace, "--include-crds"]
        command += ["--kube-version", kube_version, *_choices(values_files, values)]
        command += [f"--api-versions={version}" for version in api_versions]
        return parsed(self.run(*command, seconds=_RENDER_SECONDS))

    def lint(
        self,
        chart: Path,
        *,
        values_files: Sequence[Path] = (),
        values: Mapping[str, str] | None = None,
        kube_version: str = _KUBERNETES,
    ) -> str:
        """Return what `helm lint --strict` says. Raise `HelmError` for a warning or an error, which it names."""
        command = ["lint", "--strict", str(chart), "--kube-version", kube_version, *_choices(values_files, values)]
        return self.run(*command, seconds=_RENDER_SECONDS)

    def upgrade(self, release: str, chart: Path, *options: str, namespace: str) -> str:
        """Upgrade a release; return what helm prints. Raise `HelmError`."""
        return self._change("upgrade", release, str(chart), *options, namespace=namespace)

    def uninstall(self, release: str, *options: str, namespace: str) -> str:
        """Remove a release; return what helm prints. Raise `HelmError`."""
        return self._change("uninstall", release, *options, namespace=namespace)

    def _change(self, *arguments: str, namespace: str) -> str:
        if not self.kubeconfig:
            raise ValueError(f"helm {arguments[0]} needs the kubeconfig of a cluster")
        return self.run(*arguments, "--namespace", namespace, seconds=_INSTALL_SECONDS)

    def run(self, *arguments: str, seconds: float) -> str:
        """Return what a command prints. Raise `HelmError`."""
        environ = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        if self.kubeconfig:
            environ["KUBECONFIG"] = str(self.kubeconfig)
        process = subprocess.run(
            [self.program, *arguments], env=environ, capture_output=True, text=True, timeout=seconds, check=False
        )
        if process.returncode:
            said = process.stdout if arguments[0] == "lint" else ""  # lint names what it finds on stdout
            raise HelmError(f"{said}{process.stderr}".strip())
        return process.stdout


def _choices(values_files: Sequence[Path], values: Mapping[str, str] | None) -> list[str]:
    files = [f"--values={file}" for file in values_files]
    return files + [f"--set={name}={value}" for name, value in (values or {}).items()]


def installed_helm(kubeconfig: Path | None = None) -> Helm:
    """Return the helm of BINDERY_TEST_HELM, else that of the tests' cluster, else that on PATH. Raise `NoHelmError`."""
    named = os.environ.get("BINDERY_TEST_HELM")
    candidates = [named] if named else [str(HOME / "bin" / "helm"), "helm"]
    for candidate in candidates:
        if program := shutil.which(candidate):
            return Helm(program=program, kubeconfig=kubeconfig)
    raise NoHelmError(f"helm is missing: none is at {' or '.join(candidates)}; BINDERY_TEST_HELM may name one")


class DuplicateKeyError(yaml.YAMLError):
    """A mapping has a key twice, of which a cluster would drop one in silence."""


class _UniqueKeysLoader(yaml.CSafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise DuplicateKeyError(f"{key!r} is there twice{key_node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parsed(rendered: str) -> list[Manifest]:
    """Return the objects of a stream of YAML documents, without empty ones. Raise `DuplicateKeyError`."""
    documents = yaml.load_all(rendered, Loader=_UniqueKeysLoader)
    return [document for document in documents if document is not None]
