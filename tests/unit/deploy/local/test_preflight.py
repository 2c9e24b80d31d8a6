"""Checks of the machine before anything is started."""

from pathlib import Path

import pytest

from deploy.local.preflight import check_git, warnings
from deploy.local.settings import Settings, StartupError


def fake_git(folder: Path, version: str) -> None:
    git = folder / "git"
    git.write_text(f"#!/bin/sh\necho 'git version {version}'\n")
    git.chmod(0o755)


@pytest.mark.parametrize("version", ["2.36.9", "1.99.0"])
def test_an_old_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_git(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match=f"This git is {version}: install git 2.37 or later"):
        check_git()


@pytest.mark.parametrize("version", ["2.37.0", "2.39.5 (Apple Git-154)", "3.0.1"])
def test_a_newer_git_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_git(tmp_path, version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert version.startswith(check_git())


def test_a_missing_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match=r"git is missing .*: install git 2\.37"):
        check_git()


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("BINDERY_SEAT_TOTAL", "BINDERY_SEAT_TOTAL (did you mean BINDERY_SEATS_TOTAL?)"),
        ("BINDERY_XYZZY", "nothing reads BINDERY_XYZZY:"),
        ("BINDERY_LDAP_HOST", ""),  # passed on to the hub
        ("BINDERY_PORT", ""),  # up's own
        ("BINDERY_GITHUB_ACCESS_TOKEN", ""),  # the resolver's
        ("BINDERY_HUB_CONFIG_FILE", ""),  # the hub's
        ("BINDERY_TEST_CACHE", ""),
        ("UNBINDERY_SEAT_TOTAL", ""),
    ],
)
def test_a_misspelled_setting_is_named_with_the_one_that_was_meant(variable: str, complaint: str) -> None:
    settings = Settings(part_environment={"hub": ["BINDERY_LDAP_HOST"]})
    messages = warnings(settings, {variable: "1"})
    assert len(messages) == bool(complaint)
    assert all(complaint in message for message in messages)
