"""Package indexes that want credentials: uv gets them, and nothing else that a build runs, nor its log."""

import base64
import os
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.builder.executors.process.session.environment import (
    base_environment,
    installer_environment,
    session_environment,
)
from services.builder.executors.process.session.image_runtime.variables import image_variables
from services.builder.executors.process.session.indexes import read_indexes
from tests.support.sample_builds import build_files

USER = "ci"
PASSWORD = "S3CRET/of+the=index"
QUOTED = "S3CRET%2Fof%2Bthe%3Dindex"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SPELLINGS = (PASSWORD, QUOTED, BASIC)

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "nosy"
version = "1"
dependencies = ["bindery-private"]
"""
BACKEND = """
import os, pathlib, sys, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    found = [str(dict(os.environ)), str(sys.argv)]
    for number in os.listdir("/dev/fd"):
        if int(number) > 2:
            found.append(os.read(int(number), 9999).decode("utf-8", "replace") if is_pipe(int(number)) else "")
    parent = pathlib.Path("/proc") / str(os.getppid())
    if parent.exists():
        found += [parent.joinpath(name).read_text() for name in ("environ", "cmdline")]
    pathlib.Path("found").write_text(chr(10).join(found))
    FAIL
    with zipfile.ZipFile(pathlib.Path(directory) / "nosy-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nosy-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: nosy\\nVersion: 1\\n")
        wheel.writestr("nosy-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("nosy-1.dist-info/RECORD", "")
    return "nosy-1-py3-none-any.whl"

def is_pipe(number):
    import stat
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index with one package, behind a password: its `<host>:<port>`."""
    name = "bindery_private-1-py3-none-any.whl"
    folder = tmp_path / "index" / "simple" / "bindery-private"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / name, "w") as wheel:
        wheel.writestr("bindery_private.py", "answer = 42\n")
        about = "bindery_private-1.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: bindery-private\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") == f"Basic {BASIC}":
                super().do_GET()
            else:
                self.send_error(401)

        do_HEAD = do_GET  # noqa: N815 -- the standard library's spelling

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(tmp_path / "index"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _in_url(host: str) -> dict[str, str]:
    return {"UV_DEFAULT_INDEX": f"http://{USER}:{QUOTED}@{host}/simple"}


def _by_name(host: str) -> dict[str, str]:
    named = {"UV_INDEX_OUR_OWN_USERNAME": USER, "UV_INDEX_OUR_OWN_PASSWORD": PASSWORD}
    return {"UV_DEFAULT_INDEX": f"our-own=http://{host}/simple"} | named


def _of_links(host: str) -> dict[str, str]:
    return {"UV_FIND_LINKS": f"http://{USER}:{QUOTED}@{host}/simple/bindery-private/", "UV_OFFLINE": "0"}


@pytest.mark.parametrize("variables_for", [_in_url, _by_name, _of_links])
async def test_a_build_backend_sees_no_credentials_of_the_index_that_its_packages_come_from(
    variables_for: object, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(variables_for)
    for name, value in variables_for(index).items():
        monkeypatch.setenv(name, value)
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND.replace("FAIL", "")}
    built = await build_files(tmp_path, files)
    assert built.outcome.ok, built.text
    assert list(built.image.env.glob("lib/python*/site-packages/bindery_private.py"))
    environment = (built.image.repo / "found").read_text()
    assert "UV_CACHE_DIR" in environment
    for text in (environment, built.text, *(path.read_text() for path in built.image.path.rglob("*.json"))):
        assert not any(secret in text for secret in SPELLINGS)


async def test_a_secret_that_a_build_says_all_the_same_is_blanked_in_its_log_and_in_its_reason(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX", _in_url(index)["UV_DEFAULT_INDEX"])
    monkeypatch.setenv("HTTPS_PROXY", "http://worker:proxy-passw0rd@127.0.0.1:9")
    saying = f"raise SystemExit(str(dict(os.environ)) + ' is known: {PASSWORD} {QUOTED} {BASIC}')"
    built = await build_files(tmp_path, {"pyproject.toml": PROJECT, "backend.py": BACKEND.replace("FAIL", saying)})
    assert built.code == "build_failed"
    assert "is known: [secret] [secret] [secret]" in built.text
    assert "http://worker:[secret]@127.0.0.1:9" in built.text
    stored = built.folder.log.read_text() + built.folder.exit_path.read_text()
    assert not any(secret in stored for secret in (*SPELLINGS, "proxy-passw0rd"))


def test_indexes_keep_their_order_their_names_and_which_is_asked_last() -> None:
    variables = {
        "UV_INDEX": "http://a/simple own=https://u:p@b/simple  https://t0ken-t0ken@c/simple",
        "UV_DEFAULT_INDEX": "last=http://d/simple",
        "UV_INDEX_LAST_PASSWORD": "p@d/",
    }
    indexes = read_indexes(variables)
    assert indexes.environment == {}
    assert tomllib.loads(indexes.configuration) == {
        "index": [
            {"url": "http://a/simple"},
            {"url": "https://u:p@b/simple", "name": "own"},
            {"url": "https://t0ken-t0ken@c/simple"},
            {"url": "http://:p%40d%2F@d/simple", "name": "last", "default": True},
        ]
    }
    assert {"p", "t0ken-t0ken", "p@d/", "p%40d%2F"} <= set(indexes.secrets)


def test_what_needs_no_credentials_stays_as_it_is_said() -> None:
    variables = {"UV_INDEX": "own=http://a/simple?x=1 ./folder", "UV_FIND_LINKS": "./wheels,http://b/wheels"}
    assert read_indexes(variables | {"UV_INDEX_OTHER_PASSWORD": "never-sent"}).environment == variables
    mixed = read_indexes(variables | {"UV_FIND_LINKS": "./wheels,https://u:pass@b/wheels"})
    assert mixed.environment == {"UV_INDEX": variables["UV_INDEX"]}
    assert tomllib.loads(mixed.configuration) == {"find-links": ["./wheels", "https://u:pass@b/wheels"]}


def test_no_program_of_a_build_inherits_credentials_or_what_names_them(tmp_path: Path) -> None:
    """A password for a named index goes to that index of the operator's, not to one that a repository calls so."""
    worker = _by_name("index.example.org") | {"PIP_INDEX_URL": "https://u:pass@pip/", "NETRC": "/home/me/.netrc"}
    session = session_environment(os.environ | worker)
    installer = installer_environment(session, tmp_path, tmp_path, downloads="never")
    scripts = image_variables(base_environment(session), env=tmp_path, repo=tmp_path)
    for environment in (installer, scripts):
        assert not environment.keys() & {*worker, "UV_INDEX_OUR_OWN_USERNAME"}
        assert PASSWORD not in str(environment)
