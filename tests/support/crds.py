"""The custom resources that Bindery's chart may make, as their projects define them.

The definitions come from Go modules, of which only these files are kept, for all later runs.
"""

import contextlib
import fcntl
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.engine import CACHE
from tests.support.go_toolchain import go_environment, module_archive


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
    kept.mkdir(parents=True, exist_ok=True)
    folders = [kept / f"{source.module.replace('/', '_')}@{source.version}" for source in _SOURCES]
    with _only_one(kept):
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

    What it knows already stays as it is, and stays there.
    """
    known = cluster.kubectl("get", "customresourcedefinitions", "-o", "name")
    missing = [file for file in crd_files() if f"/{_name(file)}\n" not in known]
    named = [argument for file in missing for argument in ("-f", str(file))]
    try:
        if named:
            cluster.kubectl("apply", "--server-side", *named)
            cluster.kubectl("wait", "--for=condition=established", *named)
        yield
    finally:
        if named:
            cluster.kubectl("delete", "--ignore-not-found", *named)


def _name(file: Path) -> str:
    """Return the name of a definition by that of its file: `<group>_<plural>.yaml`."""
    group, _, plural = file.stem.partition("_")
    return f"{plural}.{group}"


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock under which the files are changed."""
    with (folder / "lock").open("a") as lock:
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
