"""The checks of `bindery doctor`, and its table."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from bindery.doctor import format_table, run_checks
from deploy.local.installation import open_installation
from deploy.local.preflight import warnings
from deploy.local.settings import Settings
from tests.support.ports import free_ports
from tests.support.small_stack import STAYS, SmallStack, start_process


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
