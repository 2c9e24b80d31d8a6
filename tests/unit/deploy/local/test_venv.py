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
        self.folder = folder
        self.wheels = folder / "wheels"
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


@pytest.mark.slow
def test_is_installed_once_per_lock_and_again_when_interrupted(checkout: Checkout) -> None:
    result = checkout.run()
    assert (result.returncode, checkout.installed()) == (0, "1.0"), result.stderr

    shutil.rmtree(checkout.wheels)  # from here on, asking for anything would fail
    result = checkout.run()
    assert (result.returncode, result.stderr) == (0, "")

    (checkout.folder / ".venv" / "installed-requirements.lock").unlink()  # as an interrupted install leaves it
    result = checkout.run()
    assert "Installing requirements.lock" in result.stderr

    checkout.lock.write_text(make_wheel(checkout.wheels, "1.1"))
    assert checkout.run().returncode == 0
    assert checkout.installed() == "1.1"

    shutil.rmtree(checkout.wheels)
    checkout.lock.write_text("bindingtest==2.0 --hash=sha256:" + "0" * 64 + "\n")
    result = checkout.run()
    assert result.returncode == 1
    assert "could not be downloaded: no package index was reached" in result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == 2
    assert not (checkout.folder / ".venv" / "installed-requirements.lock").exists()

    make_wheel(checkout.wheels, "2.0")
    result = checkout.run()
    assert result.returncode == 1
    assert "is not the one that requirements.lock names" in result.stderr.splitlines()[-1]


def python_that(folder: Path, script: str) -> str:
    fake = folder / "fake-python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    return str(fake)


INSTALLING = "Collecting jupyterhub-traefik-proxy==2.1.0 (from -r requirements.lock (line 7))\n"
RETRIED = (
    "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7fd8>: Failed to establish a "
    "new connection: [Errno -2] Name or service not known')': /simple/arq/\n"
)
NOT_FOUND = """\
ERROR: Could not find a version that satisfies the requirement arq==0.28.0 (from versions: {offered})
ERROR: No matching distribution found for arq==0.28.0
"""
POOL = "HTTPSConnectionPool(host='files.example.org', port=443)"
PIP = """
case "$*" in
    *version_info*) echo 3.12 ;;
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip install"*) cat pip.log; exit 1 ;;
esac
"""


def pip_that_says(checkout: Checkout, log: str) -> str:
    """The last line of an install in which pip fails with this log."""
    (checkout.folder / "pip.log").write_text(log)
    result = checkout.run(PYTHON=python_that(checkout.folder, PIP))
    assert result.returncode == 1
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "log",
    [
        NOT_FOUND.format(offered="none"),
        RETRIED + NOT_FOUND.format(offered="0.1"),
        f"ERROR: Could not install packages due to an OSError: {POOL}: Max retries exceeded with url: /x (Caused by "
        "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden')))\n",
        "ERROR: Could not install packages due to an OSError: ('Connection aborted.', OSError(104, 'x'))\n",
        "ERROR: Exception:\nTraceback (most recent call last):\n"
        f"pip._vendor.urllib3.exceptions.ReadTimeoutError: {POOL}: Read timed out.\n",
        "WARNING: Connection timed out while downloading.\nerror: incomplete-download\n",
    ],
)
def test_connection_trouble_is_told_as_that(checkout: Checkout, log: str) -> None:
    assert "no package index was reached. Check the network" in pip_that_says(checkout, INSTALLING + log)


UNTRUSTED = (
    "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to "
    "get local issuer certificate (_ssl.c:1006)'))': /simple/arq/\n"
)


def test_a_certificate_that_is_not_trusted_is_told_with_the_variables_to_set(checkout: Checkout) -> None:
    message = pip_that_says(checkout, INSTALLING + UNTRUSTED + NOT_FOUND.format(offered="none"))
    assert "the package index's certificate is not trusted. If a proxy of your network opens TLS connections" in message
    assert "in SSL_CERT_FILE and REQUESTS_CA_BUNDLE, and run make again" in message


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "No space left on device",
        ),
        ("ERROR: Failed building wheel for jupyterhub-traefik-proxy\n", "Failed building wheel"),
        (NOT_FOUND.format(offered="0.1"), "No matching distribution found"),
    ],
)
def test_any_other_failure_is_told_in_pips_own_words_also_after_a_retry_that_went_well(
    checkout: Checkout, log: str, sentence: str
) -> None:
    before = "" if "No matching" in sentence else RETRIED + UNTRUSTED
    message = pip_that_says(checkout, before + INSTALLING + log)
    assert message.startswith("Installing requirements.lock failed: ERROR: ")
    assert sentence in message
    assert "network" not in message


@pytest.mark.slow
def test_a_broken_wheel_of_a_package_named_proxy_is_not_called_a_network_failure(checkout: Checkout) -> None:
    wheel = checkout.wheels / "jupyterhub_traefik_proxy-2.1-py3-none-any.whl"
    wheel.write_bytes(b"half a wheel")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    checkout.lock.write_text(f"jupyterhub-traefik-proxy==2.1 --hash=sha256:{digest}\n")
    message = checkout.run().stderr.splitlines()[-1]
    assert message.startswith("Installing requirements.lock failed: ERROR: ")
    assert "jupyterhub" in message


def test_an_unsupported_python_is_named(checkout: Checkout) -> None:
    result = checkout.run(PYTHON=python_that(checkout.folder, "echo 3.10"))
    assert result.returncode == 1
    assert "is not Python 3.11, 3.12 or 3.13" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_python_at_all(checkout: Checkout) -> None:
    (checkout.folder / "bin").mkdir()
    for name in ("basename", "cmp", "dirname"):
        (checkout.folder / "bin" / name).symlink_to(shutil.which(name) or name)
    result = checkout.run(PYTHON="", PATH=str(checkout.folder / "bin"))
    assert result.returncode == 1
    assert result.stderr.startswith("No Python 3.11, 3.12 or 3.13 found: install one")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_ensurepip_is_named_with_the_package_that_brings_it(checkout: Checkout) -> None:
    script = 'case "$2" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac'
    result = checkout.run(PYTHON=python_that(checkout.folder, script))
    assert result.returncode == 1
    assert "apt-get install python3.12-venv" in result.stderr
    assert len(result.stderr.splitlines()) == 1
