"""What authors write for pip, installed by the real installer: from files, and from indexes of the test's own."""

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.net.registries import PYPI
from tests.support.checkouts import Files
from tests.support.sample_builds import QUICK, BuildResult, build_files
from tests.support.wheels import project, wheel, wheel_name

TINY = {f"wheels/{wheel_name('tiny')}": wheel("tiny")}
NOWHERE = "http://127.0.0.1:9/simple"


def _value(built: BuildResult, expression: str, module: str = "tiny") -> str:
    assert built.outcome.ok, built.text
    command = [str(built.image.python), "-P", "-c", f"import {module}; print({module}.{expression})"]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=True).stdout.strip()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """Two indexes, below `<URL>/old` and `<URL>/new`: the URL. Each has a release of `tiny`."""
    for name, version in (("old", "1.0"), ("new", "2.0")):
        folder = tmp_path / "indexes" / name / "tiny"
        folder.mkdir(parents=True)
        file = wheel_name("tiny", version)
        (folder / file).write_bytes(wheel("tiny", version))
        (folder / "index.html").write_text(f'<a href="{file}">{file}</a>')

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "indexes"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_options_of_the_file_do_not_hold_for_the_packages_of_the_operator(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{indexes}/new")
    settings = QUICK.model_copy(update={"base_packages": ("tiny",)})
    local = {f"wheels/{wheel_name('local')}": wheel("local", "1.0", "tiny>=1")}
    text = "--no-index\n--find-links ./wheels\n--no-binary :all:\n--only-binary local\nlocal\n"
    built = await build_files(tmp_path, {"requirements.txt": text, **local}, settings)
    assert _value(built, "VERSION", "local") == "1.0"
    assert _value(built, "VERSION") == "2.0"


async def test_an_index_of_the_file_takes_the_place_of_the_operators(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    monkeypatch.setenv("UV_INDEX", f"http://me:secret@127.0.0.1:9/simple {NOWHERE}")
    built = await build_files(tmp_path, {"requirements.txt": f"--index-url {indexes}/old\ntiny\n"})
    assert _value(built, "VERSION") == "1.0"


async def test_the_best_version_of_all_indexes_is_taken(tmp_path: Path, indexes: str) -> None:
    text = f"--extra-index-url {indexes}/gone\n--index-url {indexes}/old\n--extra-index-url {indexes}/new\ntiny\n"
    assert _value(await build_files(tmp_path, {"requirements.txt": text}), "VERSION") == "2.0"


async def test_pypi_named_in_the_file_is_what_the_operator_put_in_its_place(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{indexes}/new")
    built = await build_files(tmp_path, {"requirements.txt": f"-i https://{PYPI}/simple\ntiny\n"})
    assert _value(built, "VERSION") == "2.0"


@pytest.mark.parametrize(
    "settings",
    [
        {"uv.toml": 'required-version = ">=99"\n'},
        {"pyproject.toml": '[tool.uv]\nrequired-version = "==0.0.1"\n'},
        {"pyproject.toml": '[tool.uv.pip]\ntarget = "vendored"\n'},
        {"pyproject.toml": '[tool.uv.sources]\ntiny = { path = "/nowhere" }\n'},
    ],
    ids=["uv.toml", "required-version", "target", "sources"],
)
async def test_the_repositorys_settings_of_uv_do_not_count(tmp_path: Path, settings: dict[str, str]) -> None:
    text = f"./wheels/{wheel_name('tiny')}\n"
    assert _value(await build_files(tmp_path, {"requirements.txt": text, **TINY, **settings}), "VERSION") == "1.0"


async def test_a_project_is_built_without_the_sources_that_it_tells_uv(tmp_path: Path) -> None:
    more = '[tool.uv.sources]\ntiny = { path = "/nowhere" }\n[tool.uv]\nconstraint-dependencies = ["tiny<0"]\n'
    files: Files = {"requirements.txt": f"./wheels/{wheel_name('tiny')}\n", **TINY, **project("atop", more=more)}
    built = await build_files(tmp_path, files)
    assert _value(built, "VERSION", "atop") == "1.0"
    assert _value(built, "VERSION") == "1.0"


async def test_an_editable_project_leads_to_the_repository(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"binder/requirements.txt": "-e .[more]\n", **project("atop")})
    assert _value(built, "__file__", "atop") == str(built.image.repo / "atop.py")


async def test_a_setting_for_the_build_backend_reaches_it(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"binder/requirements.txt": ". -C flavour=sweet\n", **project("atop")})
    assert _value(built, "SETTINGS", "atop") == "{'flavour': 'sweet'}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
async def test_a_file_from_windows_is_installed(tmp_path: Path, encoding: str) -> None:
    text = f"# größe\r\nwheels/{wheel_name('tiny')} ; \\\r\n  python_version > '3'\r\n"
    assert _value(await build_files(tmp_path, {"requirements.txt": text.encode(encoding), **TINY}), "VERSION") == "1.0"


def _lock(digest: str) -> dict[str, str]:
    entry = {"version": "==1.0", "hashes": [f"sha256:{digest}"]}
    here = {"path": ".", "editable": True}
    lock = {"_meta": {"sources": []}, "default": {"tiny": entry}, "develop": {"atop": here}}
    return {"Pipfile.lock": json.dumps(lock), "Pipfile": '[packages]\nno-such-package-anywhere = "*"\n'}


async def test_a_lock_of_pipenv_is_installed_with_its_hashes(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{indexes}/old")
    digest = hashlib.sha256(wheel("tiny")).hexdigest()
    built = await build_files(tmp_path, _lock(digest) | project("atop"))
    assert _value(built, "VERSION") == "1.0"
    assert _value(built, "VERSION", "atop") == "1.0"


async def test_a_package_that_is_not_the_locked_one_ends_the_build(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{indexes}/old")
    built = await build_files(tmp_path, _lock("0" * 64) | project("atop"))
    assert built.code == "build_failed"
    assert "Hash mismatch for `tiny==1.0`" in built.text


async def test_hashes_are_asked_of_the_files_own_lines_only(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{indexes}/new")
    settings = QUICK.model_copy(update={"base_packages": ("tiny",)})
    content = wheel("local", "1.0", "tiny")
    text = f"./{wheel_name('local')} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
    files: Files = {"requirements.txt": text, wheel_name("local"): content}
    assert _value(await build_files(tmp_path, files, settings), "VERSION", "local") == "1.0"


@pytest.mark.parametrize("script", ["echo ran > trace\n", b"\xef\xbb\xbf#!/bin/bash\necho ran > trace\n"])
async def test_a_post_build_without_a_first_line_that_names_a_program_is_run_by_sh(
    tmp_path: Path, script: str | bytes
) -> None:
    built = await build_files(tmp_path, {"postBuild": script})
    assert built.outcome.ok, built.text
    assert (built.image.repo / "trace").read_text() == "ran\n"


async def test_a_log_tells_what_is_passed_over(tmp_path: Path) -> None:
    files = {"requirements.txt": "", "pyproject.toml": '[build-system]\nrequires = ["poetry-core"]\n'}
    built = await build_files(tmp_path, files)
    assert built.outcome.ok, built.text
    assert "pyproject.toml is passed over, as in repo2docker" in built.text
