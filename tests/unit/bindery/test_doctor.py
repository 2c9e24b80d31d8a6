"""The checks of `bindery doctor`, and its table."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from bindery.doctor import format_table, run_checks
from deploy.local.installation import open_installation
from deploy.local.preflight import warnings
from deploy.local.settings import Settings
from tests.support.ports import free_ports
from tests.support.small_stack import STAYS, SmallStack, start_process
from tests.support.tls import issued_certificate_for

PACKAGE = "packaging-99.0-py3-none-any.whl"
PAGES = {
    "/simple/packaging/": f'<a href="/{PACKAGE}" data-core-metadata="true">{PACKAGE}</a>',
    f"/{PACKAGE}.metadata": "Metadata-Version: 2.1\nName: packaging\nVersion: 99.0\n",
}


@pytest.fixture(autouse=True)
def no_github(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests that make a GitHub of their own ask one."""
    monkeypatch.setenv("BINDERY_GITHUB_URL", "http://127.0.0.1:1")


class _Answers(BaseHTTPRequestHandler):
    """A package index with one package, and a host that answers HEAD."""

    def do_GET(self) -> None:
        page = PAGES.get(self.path, "").encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def behind_a_proxys_certificate(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield a URL whose certificate an authority issued that this machine does not know, and that authority's file."""
    authority, context = issued_certificate_for("localhost", folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fake_git(folder: Path, version: str) -> None:
    git = folder / "git"
    git.write_text(f"#!/bin/sh\necho 'git version {version}'\n")
    git.chmod(0o755)


def test_doctor_warns_of_a_git_that_a_repository_may_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path, "2.38.1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    findings = run_checks(Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0]))
    git = next(finding for finding in findings if finding.name == "git")
    assert (git.is_well, git.is_warning) == (True, True)
    assert "git 2.38.1 has memory errors" in git.result
    row = next(row for row in format_table(findings).splitlines() if row.split()[1] == "git")
    assert row.startswith("warn  git ")
    assert "update it to 2.38.3 or later" in row


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
@pytest.mark.slow
def test_a_proxy_of_the_environment_is_said_not_to_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("UV_OFFLINE", "1")
    settings = Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0])

    def row() -> str:
        return next(
            " ".join(row.split())
            for row in format_table(run_checks(settings)).splitlines()
            if " outbound proxy " in row
        )

    assert row() == "ok outbound proxy none"
    monkeypatch.setenv(name, "http://someone:hunter2@proxy.test:3128")
    assert row().startswith(f"warn outbound proxy {name} is set: packages are fetched through that proxy, but GitHub")
    assert warnings(settings, os.environ) == [row().partition("proxy ")[2]]
    assert "name it in BINDERY_OUTBOUND_PROXY" in row()
    assert "hunter2" not in row()
    monkeypatch.setenv("BINDERY_OUTBOUND_PROXY", "http://someone:hunter2@proxy.test:3128")
    assert row() == "ok outbound proxy proxy.test:3128"
    assert warnings(settings, os.environ) == []


def test_doctor_finds_leftovers_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    settings = Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0])
    open_installation(settings.data_dir)
    settings.processes_dir.mkdir(parents=True)
    process, build = start_process(STAYS, name="build 12")
    build.write(settings.processes_dir / "build.json")
    findings = {finding.name: finding for finding in run_checks(settings)}
    process.kill()
    process.communicate()
    assert not findings["leftovers"].is_well
    assert f"build 12 ({build.pid}). `make up` or `make stop` ends them." in findings["leftovers"].result
    assert not findings["package index"].is_well
    assert all(finding.is_well for name, finding in findings.items() if name not in {"leftovers", "package index"})
    rows = format_table(list(findings.values())).splitlines()
    assert rows[0].startswith("ok    python")
    assert rows[-1].startswith("FAIL  leftovers")


@pytest.mark.slow
def test_doctor_knows_a_running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    settings = Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0])
    with SmallStack(settings.data_dir, settings.port, {"gateway": STAYS}).until_ready():
        asked_with_another_port = settings.model_copy(update={"port": settings.port + 1})
        findings = {finding.name: finding for finding in run_checks(asked_with_another_port)}
        token = (settings.run_dir / "start-token").read_text()
    sentence = f"Bindery is running: {settings.url} (`make url` prints it with the start token)"
    assert findings["leftovers"].result == sentence
    assert findings["port"].result == f"{settings.port}, by the Bindery that runs now"
    assert findings["start token"].result == "asked for"
    assert token not in format_table(list(findings.values()))  # it may be pasted into a report


def test_doctor_says_what_it_means_that_no_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    findings = {finding.name: finding for finding in run_checks(Settings(data_dir=tmp_path, start_token=SecretStr("")))}
    assert "BINDERY_START_TOKEN is empty" in findings["start token"].result


@pytest.mark.parametrize("url", ["http://bindery.example", "http://10.0.0.3:8585/", "http://localhost.evil.example"])
def test_doctor_says_what_plain_http_off_this_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("BINDERY_PUBLIC_URL", url)
    findings = {finding.name: finding for finding in run_checks(Settings(data_dir=tmp_path))}
    assert not findings["public address"].is_well
    assert findings["public address"].result.startswith(f"BINDERY_PUBLIC_URL={url} is plain http")
    assert "/build has no protection against other sites" in findings["public address"].result
    assert "Serve it by https." in findings["public address"].result


@pytest.mark.parametrize(
    "url", ["", "https://bindery.example", "http://127.0.0.1:8585", "http://[::1]:80", "http://localhost"]
)
def test_doctor_takes_an_address_that_browsers_hold_secure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("BINDERY_PUBLIC_URL", url)
    assert next(
        finding for finding in run_checks(Settings(data_dir=tmp_path)) if finding.name == "public address"
    ).is_well


def findings_of(settings: Settings) -> dict[str, tuple[str, str]]:
    """Return the mark and the text of each row."""
    rows = (row.split(None, 1) for row in format_table(run_checks(settings)).splitlines())
    findings = ((mark, name, rest) for mark, row in rows for name, _, rest in [row.partition("  ")])
    return {name: (mark, rest.strip()) for mark, name, rest in findings}


@pytest.mark.slow
def test_the_variables_are_named_that_make_a_proxys_certificate_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "UV_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0])
    with behind_a_proxys_certificate(tmp_path) as (url, authority):
        monkeypatch.setenv("BINDERY_GITHUB_URL", url)
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple")
        refused = findings_of(settings)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        trusted = findings_of(settings)

    for name, beginning in (("package index", "its certificate "), ("github", f"the certificate of {url} ")):
        mark, result = refused[name]
        assert mark == "FAIL"
        assert result.startswith(f"{beginning}is not trusted: if a proxy of your network opens TLS connections, ")
        assert result.endswith("name the file with all of them in SSL_CERT_FILE and REQUESTS_CA_BUNDLE.")
    assert trusted["package index"] == ("ok", "reachable")
    assert trusted["github"] == ("ok", f"{url} is reachable")


def test_a_github_that_does_not_answer_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    mark, result = findings_of(Settings(data_dir=tmp_path))["github"]
    assert mark == "warn"
    assert result.startswith("http://127.0.0.1:1 is not reachable, so its repositories can't be launched.")


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    mark, result = findings_of(Settings(data_dir=tmp_path))["github"]
    assert mark == "FAIL"
    assert result.startswith("SSL_CERT_FILE")
    assert "name a file of certificates in PEM form" in result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BINDERY_OUTBOUND_PROXY", "user:sesame@proxy.example:3128"),
        ("BINDERY_OUTBOUND_PROXY", "socks5://proxy.example:1080"),
        ("BINDERY_OUTBOUND_PROXY", "http://[::1"),
        ("BINDERY_GITHUB_URL", "http://[::1"),
    ],
)
def test_an_address_that_makes_no_sense_is_a_finding(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv(name, value)
    mark, result = findings_of(Settings(data_dir=tmp_path))["github"]
    assert mark == "FAIL"
    assert result == f"{name} is no address: write it as http://host:port."
