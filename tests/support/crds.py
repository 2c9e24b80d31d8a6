"""The custom resources that Bindery's chart may make, as their projects define them.

The definitions come from Go modules, of which only these files are kept, for all later runs.
"""

import contextlib
import fcntl
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.cluster import Cluster
from tests.support.engine import CACHE
from tests.support.go_toolchain import go_environment, module_archive
from tests.support.polling import eventually

_KIND = "customresourcedefinitions"
_OURS = "bindery-test/made-by"
"""A label of the definitions that tests have made."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A module, with its checksum as Go's checksum database has it, and the files of it that are wanted."""

    module: str
    version: str
    sum: str
    folder: str
    files: tuple[str, ...]


_SOURCES = (
    _Source(
        module="github.com/kedacore/keda/v2",
        version="v2.21.0",
        sum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        folder="config/crd/bases",
        files=("keda.sh_scaledobjects.yaml", "keda.sh_triggerauthentications.yaml"),
    ),
    _Source(
        module="github.com/prometheus-operator/prometheus-operator",
        version="v0.85.0",
        sum="h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        folder="example/prometheus-operator-crd",
        files=(
            "monitoring.coreos.com_podmonitors.yaml",
            "monitoring.coreos.com_prometheusrules.yaml",
            "monitoring.coreos.com_servicemonitors.yaml",
        ),
    ),
    _Source(
        module="sigs.k8s.io/gateway-api",
        version="v1.7.0",
        sum="h1:duVnm7nO6oXfMMUWfcDoBph47CYR/ME3NGxccOVglaY=",
        folder="config/crd/standard",
        files=("gateway.networking.k8s.io_httproutes.yaml",),
    ),
)


def crd_files(cache: Path = CACHE) -> list[Path]:
    """Return the files of the definitions; get those that are missing. Raise `NoGoError` if a module can't be had.

    Some are too large for the annotation that a plain `kubectl apply` writes: apply them with `--server-side`.
    """
    kept = cache / "crds"
    folders = [kept / f"{source.module.replace('/', '_')}@{source.version}" for source in _SOURCES]
    with _only_one(kept / "lock"):
        missing = [
            (source, folder) for source, folder in zip(_SOURCES, folders, strict=True) if not _has_all(folder, source)
        ]
        if missing:
            with tempfile.TemporaryDirectory(prefix="bindery-crds-") as go:
                environ = go_environment(Path(go))
                for source, folder in missing:
                    _get(source, folder, environ)
    return [folder / file for source, folder in zip(_SOURCES, folders, strict=True) for file in source.files]


@contextlib.contextmanager
def defined(cluster: Cluster) -> Iterator[None]:
    """Let a cluster know these resources for the length of the block. Raise `NoGoError` as `crd_files`.

    What others have made stays as it is, and stays there. One block of this machine at a time: others wait.
    """
    with undefined(cluster):
        known = _names(cluster)
        definitions = [yaml.safe_load(file.read_text()) for file in crd_files()]
        missing = [definition for definition in definitions if definition["metadata"]["name"] not in known]
        for definition in missing:
            definition["metadata"].setdefault("labels", {})[_OURS] = "tests"
        try:
            if missing:
                body = json.dumps({"apiVersion": "v1", "kind": "List", "items": missing})
                cluster.kubectl("apply", "--server-side", "-f", "-", stdin=body)
                cluster.kubectl("wait", "--for=condition=established", _KIND, "--selector", _OURS)
            yield
        finally:
            _remove(cluster)


@contextlib.contextmanager
def undefined(cluster: Cluster) -> Iterator[None]:
    """Let a cluster know these resources only if others have made them, for the length of the block."""
    with _only_one(CACHE / "crds-of-cluster.lock"):
        _remove(cluster)  # what a run has left that was killed
        yield


def _names(cluster: Cluster, *options: str) -> set[str]:
    """Return the names of the definitions that there are."""
    listed = cluster.kubectl("get", _KIND, "-o", "name", *options).split()
    return {name.rpartition("/")[2] for name in listed}


def _remove(cluster: Cluster) -> None:
    """Remove the definitions that tests have made, with all resources of theirs."""
    ours = _names(cluster, "--selector", _OURS)
    if not ours:
        return
    cluster.kubectl("delete", _KIND, "--selector", _OURS)

    def known() -> set[str]:
        return ours & set(cluster.kubectl("api-resources", "-o", "name").split())

    eventually(lambda: not known(), "the API server has forgotten them")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock that the programs of this machine share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _has_all(folder: Path, source: _Source) -> bool:
    return all((folder / file).exists() for file in source.files)


def _get(source: _Source, folder: Path, environ: dict[str, str]) -> None:
    archive = module_archive(source.module, source.version, source.sum, environ)
    with tempfile.TemporaryDirectory(dir=folder.parent) as new, zipfile.ZipFile(archive) as module:
        for file in source.files:
            inside = f"{source.module}@{source.version}/{source.folder}/{file}"
            (Path(new) / file).write_bytes(module.read(inside))
        folder.mkdir(exist_ok=True)
        for file in source.files:
            shutil.move(Path(new) / file, folder / file)
