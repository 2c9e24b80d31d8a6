"""A session's own fetching: its limits are the settings', and what git knows of a commit is there for the build."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.fetching import fetch
from services.builder.executors.process.session.spec import BuildSpec
from services.builder.executors.process.settings import session_settings
from services.builder.settings import BuilderSettings
from tests.support.forge import Forge
from tests.support.lfs_objects import LfsObjects
from tests.support.paths import CHECKOUT
from tests.support.sample_builds import QUICK, build_repository
from tests.support.settings import settings_for
from tests.support.tls import certificate_for

LOCAL = QUICK.model_copy(update={"allowed_networks": ("127.0.0.0/8",)})

BACKEND = """
import os, subprocess, zipfile


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    said = subprocess.run(["git", "describe", "--tags", "--dirty"], capture_output=True, text=True, check=True)
    version = said.stdout.strip().removeprefix("v")
    name = f"described-{version}-py3-none-any.whl"
    info = f"described-{version}.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: described\\nVersion: {version}\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "described"
dynamic = ["version"]
"""
FORKED = """
import asyncio, os, sys, threading
from pathlib import Path
from services.builder.executors.process.session import fetching, session
from services.builder.executors.process.session.spec import BuildSpec
from services.common.git.versions import installed_git
from services.common.net.tls import tls_context

def done():
    calls = {cached.__name__: cached.cache_info().misses for cached in (installed_git, tls_context)}
    return dict.fromkeys(sys.modules, 1) | calls

fetching.prepare()
before = done()
assert threading.active_count() == 1, "a fork copies one thread, and the locks that others hold"
if os.fork() == 0:
    spec = BuildSpec.model_validate_json(sys.argv[1])
    asyncio.run(fetching.fetch(spec, Path(sys.argv[2]), lambda line: None))
    print(sorted(dict(done().items() - before.items())), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """A forge with a Git LFS server."""
    with Forge(tmp_path / "forge") as forge:
        forge.lfs = LfsObjects()
        yield forge


def tagged_package(forge: Forge) -> tuple[str, str]:
    """Make a package whose version is its tag, with a file in Git LFS; return its URL and commit."""
    assert forge.lfs is not None
    pointer = forge.lfs.add(b"real data")
    forge.create_repo("org", "repo", {"README.md": "first"})
    files = {".gitattributes": "*.npy filter=lfs\n", "a.npy": pointer, "pyproject.toml": PROJECT, "backend.py": BACKEND}
    sha = forge.commit("org", "repo", files)
    forge.tag("org", "repo", "v4.2", sha, annotated=True)
    return f"{forge.url}/org/repo", sha


@pytest.mark.slow
async def test_a_package_that_asks_git_for_its_version_is_installed(forge: Forge, tmp_path: Path) -> None:
    built = await build_repository(tmp_path, *tagged_package(forge), LOCAL)
    assert built.outcome.ok, built.text
    assert (built.image.repo / "a.npy").read_bytes() == b"real data"
    installed = [path.name for path in built.image.env.rglob("described-*.dist-info")]
    assert installed == ["described-4.2.dist-info"]


def test_a_process_that_is_forked_finds_all_prepared(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = forge.create_repo("org", "repo", {"a.txt": "one"})
    trusted, context = certificate_for("localhost", tmp_path)
    forge.serve_tls(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.delenv("GIT_SSL_CAINFO", raising=False)
    url = f"https://localhost:{forge.port}/org/repo"
    spec = BuildSpec(build_id="a-1", image="i", repo_url=url, ref=sha, data_dir=str(tmp_path), settings=LOCAL)
    command = [sys.executable, "-c", FORKED, spec.model_dump_json(), str(tmp_path / "checkout")]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert (tmp_path / "checkout" / "a.txt").read_text() == "one"


def test_sessions_are_forked_from_a_process_without_the_libraries_of_services() -> None:
    code = "import sys; from services.builder.executors.process.session import fork_server; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert {"aiohttp", "prometheus_client", "redis", "fastapi"} & set(result.stdout.split()) == set()


async def test_limits_are_those_of_the_settings(forge: Forge, tmp_path: Path) -> None:
    url, sha = tagged_package(forge)
    settings = LOCAL.model_copy(update={"max_history_bytes": 0, "max_lfs_bytes": 0})
    lines: list[str] = []
    spec = BuildSpec(build_id="a-1", image="i", repo_url=url, ref=sha, data_dir=str(tmp_path), settings=settings)
    await fetch(spec, tmp_path / "checkout", lines.append)
    assert any("BINDERY_FETCH_HISTORY_MAX_BYTES" in line for line in lines)
    assert any("BINDERY_FETCH_LFS_MAX_BYTES" in line for line in lines)


async def test_an_empty_repository_is_an_error_of_the_build_with_a_sentence(forge: Forge, tmp_path: Path) -> None:
    forge.create_repo("org", "repo", {})
    url = f"{forge.url}/org/repo"
    spec = BuildSpec(build_id="a-1", image="i", repo_url=url, ref="a" * 40, data_dir=str(tmp_path), settings=LOCAL)
    with pytest.raises(StepError) as failed:
        await fetch(spec, tmp_path / "checkout", lambda _line: None)
    assert failed.value.code == "ref_not_found"
    assert failed.value.message == f"{url} is an empty repository: nothing has been committed to it."


def test_the_operators_limits_are_a_sessions() -> None:
    settings = settings_for(
        BuilderSettings,
        fetch_history_max_bytes=7,
        fetch_history_timeout_seconds=6,
        fetch_lfs_max_bytes=8,
        fetch_max_bytes=9,
        fetch_max_files=10,
        fetch_unpack_max_ratio=11,
        zenodo_api_url="https://zenodo.example.org/api/",
    )
    session = session_settings(settings)
    assert (session.max_history_bytes, session.history_timeout_seconds) == (7, 6)
    assert (session.max_lfs_bytes, session.max_repository_bytes) == (8, 9)
    assert (session.max_repository_files, session.max_unpacked_ratio) == (10, 11)
    assert session.zenodo_api_url == "https://zenodo.example.org/api"
