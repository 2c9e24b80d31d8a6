"""A Go for what the tests build: the machine's, or one from the module proxy of `GOPROXY` that is removed again."""

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path

LEAST_VERSION = (1, 24, 9)
TOOLCHAIN = "v0.0.1-go1.24.9.linux-amd64"
TOOLCHAIN_SUM = "h1:XCaHFxbYbAFzirf0FlQ6XUJ3WM+yR7FdDHZvREoPVDI="
"""Of its files, as Go's checksum database has it."""
_DOWNLOAD_SECONDS = 600


class NoGoError(Exception):
    """There is no Go, or a module can't be had; the message says why in one line."""


def go_environment(folder: Path) -> dict[str, str]:
    """Return the environment in which `go` is at least `LEAST_VERSION`. Raise `NoGoError`.

    If the machine has none, one is unpacked in `folder`, and keeps its modules there, too.
    """
    environ = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -modcacherw -mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if is_recent(_version(environ)):
        return environ
    root = _unpacked(folder)
    own = {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache"), "GOROOT": str(root)}
    return environ | own | {"PATH": f"{root / 'bin'}:{environ['PATH']}"}


def _version(environ: dict[str, str]) -> str:
    if not shutil.which("go"):
        return ""
    return subprocess.run(["go", "version"], env=environ, capture_output=True, text=True, check=False).stdout


def is_recent(version: str) -> bool:
    """Return whether what `go version` prints is `LEAST_VERSION` or later."""
    numbers = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", version)
    return numbers is not None and tuple(int(number or 0) for number in numbers.groups()) >= LEAST_VERSION


def _unpacked(folder: Path) -> Path:
    """Unpack a toolchain, which is a Go module itself; return its root."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoGoError(f"Go {'.'.join(map(str, LEAST_VERSION))} or later is missing: install it")
    archive = folder / "toolchain.zip"
    proxy = re.split("[,|]", os.environ.get("GOPROXY", ""))[0]
    if not proxy.startswith(("https://", "http://")):
        raise NoGoError(f"Go {'.'.join(map(str, LEAST_VERSION))} or later is missing: install it, or set GOPROXY")
    try:
        with (
            urllib.request.urlopen(
                f"{proxy}/golang.org/toolchain/@v/{TOOLCHAIN}.zip", timeout=_DOWNLOAD_SECONDS
            ) as reply,
            archive.open("wb") as file,
        ):
            shutil.copyfileobj(reply, file)
    except (OSError, ValueError) as error:
        raise NoGoError(f"Go is missing, and {proxy} gives none ({error})") from error
    with zipfile.ZipFile(archive) as toolchain:
        if (sum_of := module_sum(toolchain)) != TOOLCHAIN_SUM:
            raise NoGoError(f"the Go from {proxy} has the sum {sum_of}, not {TOOLCHAIN_SUM}")
        toolchain.extractall(folder)
    root = folder / f"golang.org/toolchain@{TOOLCHAIN}"
    for program in [*root.glob("bin/*"), *root.glob("pkg/tool/*/*")]:  # a module's files have no modes
        program.chmod(0o755)
    return root


def module_sum(archive: zipfile.ZipFile) -> str:
    """Return the checksum of a module's files, as go.sum has it (golang.org/x/mod/sumdb/dirhash, Hash1)."""
    lines = (f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n" for name in sorted(archive.namelist()))
    return f"h1:{base64.b64encode(hashlib.sha256(''.join(lines).encode()).digest()).decode()}"


def module_folder(module: str, version: str, expected_sum: str, environ: dict[str, str]) -> Path:
    """Download a module; return the folder with its files. Raise `NoGoError`, also if they have another checksum."""
    downloaded = _downloaded(module, version, expected_sum, environ)
    if "Dir" not in downloaded:
        raise NoGoError(f"go mod download {module}@{version} failed: {downloaded['Error']}")
    return Path(downloaded["Dir"])


def module_archive(module: str, version: str, expected_sum: str, environ: dict[str, str]) -> Path:
    """Download a module for what is in it beside Go; return its zip. Raise `NoGoError` as `module_folder`.

    Its code may be for a later Go than that of `environ`.
    """
    return Path(_downloaded(module, version, expected_sum, environ)["Zip"])


def _downloaded(module: str, version: str, expected_sum: str, environ: dict[str, str]) -> dict[str, str]:
    """Return what `go mod download` says of a module whose files are there, and are those of the checksum."""
    process = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"], cwd="/", env=environ, capture_output=True, text=True,
        timeout=_DOWNLOAD_SECONDS, check=False,
    )  # fmt: skip
    downloaded: dict[str, str] = json.loads(process.stdout) if process.stdout.startswith("{") else {}
    if "Sum" not in downloaded:
        raise NoGoError(
            f"go mod download {module}@{version} failed: {(process.stdout + process.stderr).strip()[-500:]}"
        )
    if downloaded["Sum"] != expected_sum:
        raise NoGoError(f"{module}@{version} has the sum {downloaded['Sum']}, not {expected_sum}")
    return downloaded
