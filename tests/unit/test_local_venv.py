"""`make up`'s first step: an environment from the lock, made once. A wheel of its own spares the network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.local.settings import CHECKOUT

SCRIPT = CHECKOUT / "deploy" / "local" / "venv.sh"


def make_wheel(folder: Path, version: str) -> str:
    """Write a wheel of the package `bindingtest`; returns its line for a lock."""
    info = f"bindingtest-{version}.dist-info"
    files = {
        "bindingtest.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: bindingtest\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(exist_ok=True)
    wheel = folder / f"bindingtest-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"bindingtest=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class Checkout:
    """An empty folder with a lock in it, and `venv.sh` run there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels = folder, folder / "wheels"
        self.lock = folder / "requirements.lock"
        self.lock.write_text(make_wheel(self.wheels, "1.0"))

    def run(self, **environ: str) -> subprocess.CompletedProcess[str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        base |= {"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), self.lock.name],
            cwd=self.folder,
            env=base | environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> str:
        code = "import bindingtest; print(bindingtest.version)"
        return subprocess.check_output([self.folder / ".venv" / "bin" / "python", "-c", code], text=True).strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_is_installed_once_per_lock_and_again_when_interrupted(checkout: Checkout) -> None:
    done = checkout.run()
    assert (done.returncode, checkout.installed()) == (0, "1.0"), done.stderr

    shutil.rmtree(checkout.wheels)  # from here on, asking for anything would fail
    done = checkout.run()
    assert (done.returncode, done.stderr) == (0, "")

    (checkout.folder / ".venv" / "installed-requirements.lock").unlink()  # as an interrupted install leaves it
    done = checkout.run()
    assert "Installing requirements.lock" in done.stderr

    checkout.lock.write_text(make_wheel(checkout.wheels, "1.1"))
    assert checkout.run().returncode == 0
    assert checkout.installed() == "1.1"

    shutil.rmtree(checkout.wheels)
    checkout.lock.write_text("bindingtest==2.0 --hash=sha256:" + "0" * 64 + "\n")
    done = checkout.run()
    assert done.returncode == 1
    assert "could not be downloaded: no package index was reached" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 2
    assert not (checkout.folder / ".venv" / "installed-requirements.lock").exists()

    make_wheel(checkout.wheels, "2.0")
    done = checkout.run()
    assert done.returncode == 1
    assert "is not the one that requirements.lock names" in done.stderr.splitlines()[-1]


def python_that(folder: Path, script: str) -> str:
    fake = folder / "fake-python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    return str(fake)


def test_an_unsupported_python_is_named(checkout: Checkout) -> None:
    done = checkout.run(PYTHON=python_that(checkout.folder, "echo 3.10"))
    assert done.returncode == 1
    assert "is not Python 3.11, 3.12 or 3.13" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_python_at_all(checkout: Checkout) -> None:
    (checkout.folder / "bin").mkdir()
    for name in ("basename", "cmp", "dirname"):
        (checkout.folder / "bin" / name).symlink_to(shutil.which(name) or name)
    done = checkout.run(PYTHON="", PATH=str(checkout.folder / "bin"))
    assert done.returncode == 1
    assert done.stderr.startswith("No Python 3.11, 3.12 or 3.13 found: install one")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_ensurepip_is_named_with_the_package_that_brings_it(checkout: Checkout) -> None:
    script = 'case "$2" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac'
    done = checkout.run(PYTHON=python_that(checkout.folder, script))
    assert done.returncode == 1
    assert "apt-get install python3.12-venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
