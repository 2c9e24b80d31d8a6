"""The images of the docker and cluster tests: made where nothing can be pulled, kept under a hash of their inputs."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.paths import CHECKOUT

PREFIX = "bindery-tests"
REPO2DOCKER = CHECKOUT / "deploy" / "images" / "repo2docker"
IMAGES = Path(__file__).parent / "images"
JUPYTER = IMAGES / "jupyter"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE = "trixie"
_SECONDS = 600


def ensure(host: str, cache: Path) -> tuple[str, str, str]:
    """Return names of the base, the repo2docker and the jupyter image, each made now unless the engine has it."""
    base = _base(host, cache)
    return base, built(host, "repo2docker", REPO2DOCKER, base), built(host, "jupyter", JUPYTER, base)


def _base(host: str, cache: Path) -> str:
    """Make Debian from this machine's sources and with its certificates; pull it if this machine is not a Debian."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap") or not SOURCES.exists():
        name = f"debian:{SUITE}-slim"
        if not _has(host, name):
            _run(host, ["docker", "pull", name])
        return name
    text = SOURCES.read_text().replace("bookworm", SUITE)
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
    checks = "".join(
        f"{line}\n" for line in settings if line.startswith(("Acquire::Check-Date", "Acquire::Check-Valid"))
    )
    name = _name("base", text.encode(), checks.encode(), CERTIFICATES.read_bytes(), b"1")
    if _has(host, name):
        return name
    (cache / "debian.sources").write_text(text)
    (cache / "apt.conf").write_text(checks)
    make = [
        "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--include=ca-certificates",
        f"--customize-hook=cp {CERTIFICATES} $1{CERTIFICATES}",
        f"--customize-hook=cp {cache}/apt.conf $1/etc/apt/apt.conf.d/99machine",
        "--customize-hook=rm -rf $1/usr/share/doc/* $1/usr/share/locale/* $1/usr/share/man/*",
        SUITE, f"{cache}/base.tar", f"{cache}/debian.sources",
    ]  # fmt: skip
    _run(host, make)
    _forget(host, "base")
    _run(host, ["docker", "import", "--change", f"ENV PIP_CERT={CERTIFICATES}", f"{cache}/base.tar", name])
    (cache / "base.tar").unlink()
    return name


def built(host: str, kind: str, folder: Path, base: str) -> str:
    """Return the name of an image made of a folder's files on `base`, made now unless the engine has it."""
    parts = [path.read_bytes() for path in sorted(folder.iterdir())]
    name = _name(kind, base.encode(), *parts)
    if not _has(host, name):
        _forget(host, kind)
        build = ["docker", "build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", name, str(folder)]
        _run(host, build)
    return name


def _name(kind: str, *parts: bytes) -> str:
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return f"{PREFIX}/{kind}:{digest[:12]}"


def _has(host: str, name: str) -> bool:
    process = subprocess.run(
        ["docker", "image", "inspect", name], env={**os.environ, "DOCKER_HOST": host}, capture_output=True, check=False
    )
    return process.returncode == 0


def _forget(host: str, kind: str) -> None:
    """Remove what was made of other inputs before."""
    environ = {**os.environ, "DOCKER_HOST": host}
    command = ["docker", "images", "--quiet", f"{PREFIX}/{kind}"]
    if image_ids := subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split():
        subprocess.run(["docker", "rmi", "--force", *set(image_ids)], env=environ, capture_output=True, check=False)


def _run(host: str, command: list[str]) -> None:
    # The classic builder needs no plug-in, and takes an image that only the engine has for a base.
    environ = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
    process = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert process.returncode == 0, f"{' '.join(command)}\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}"
