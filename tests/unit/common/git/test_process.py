"""The environment that git is given: whose certificates it trusts."""

from pathlib import Path

import certifi
import pytest

from services.common.git.process import GitRunner

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH")


@pytest.mark.parametrize(
    ("given", "file", "folder"),
    [
        ({}, certifi.where(), "no-certificates"),
        ({"SSL_CERT_FILE": "/ours.pem", "SSL_CERT_DIR": "/ours"}, "/ours.pem", "no-certificates"),
        ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}, certifi.where(), "no-certificates"),
        ({"SSL_CERT_DIR": "/ours"}, None, None),
        ({"SSL_CERT_FILE": "/ours.pem", "GIT_SSL_CAINFO": "/gits.pem"}, "/gits.pem", None),
        ({"SSL_CERT_FILE": "/ours.pem", "GIT_SSL_CAPATH": "/gits"}, "/ours.pem", "/gits"),
    ],
)
def test_git_trusts_what_we_trust_unless_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], file: str | None, folder: str | None
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = GitRunner(home=tmp_path).environment()
    path = environment.get("GIT_SSL_CAPATH")
    assert (environment.get("GIT_SSL_CAINFO"), path) == (file, str(tmp_path / folder) if folder else None)
    if folder == "no-certificates":
        assert list((tmp_path / folder).iterdir()) == []
