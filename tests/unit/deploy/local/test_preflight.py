"""Checks of the machine before anything is started."""

from pathlib import Path

import pytest

from deploy.local.preflight import check_git
from deploy.local.settings import StartupError


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
