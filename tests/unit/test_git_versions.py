"""The git that is installed here: new enough, or named; and how we are called where git would ask."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common import git_versions
from services.common.git import git_version
from services.common.git_versions import installed_git, user_agent


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    installed_git.cache_clear()
    yield
    installed_git.cache_clear()


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in PATH, still empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put_git(folder: Path, script: str) -> None:
    """A program called git that does what `script` says."""
    git = folder / "git"
    git.write_text(f"#!/bin/sh\n{script}\n")
    git.chmod(0o755)


def test_git_is_new_enough_here() -> None:
    assert git_version() >= git_versions.MINIMUM_GIT


def test_a_git_that_is_too_old_is_named(bin_folder: Path) -> None:
    put_git(bin_folder, "echo git version 2.36.9")
    with pytest.raises(RuntimeError, match=r"'git version 2\.36\.9' is too old: install git 2\.37 or later"):
        git_version()


def test_a_missing_git_is_said(bin_folder: Path) -> None:
    assert not list(bin_folder.iterdir())
    with pytest.raises(RuntimeError, match=r"git is not installed: install git 2\.37 or later"):
        git_version()


def test_a_git_that_does_not_run_is_said(bin_folder: Path) -> None:
    put_git(bin_folder, "exit 69")
    with pytest.raises(RuntimeError, match="git does not run"):
        git_version()


@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("git version 2.39.5", "git/2.39.5 (Bindery)"),
        ("git version 2.39.5 (Apple Git-154)", "git/2.39.5 (Bindery)"),
        ("git version 2.47.0.windows.2", "git/2.47.0 (Bindery)"),
    ],
)
def test_servers_are_told_that_git_asks(bin_folder: Path, said: str, called: str) -> None:
    put_git(bin_folder, f"echo '{said}'")
    assert user_agent() == called


def test_what_we_say_begins_as_what_git_says() -> None:
    said = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    assert user_agent().startswith(f"git/{said.split()[2]}")
