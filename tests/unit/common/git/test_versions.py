"""The git that is installed here: new enough, or named; and how we are called where git would ask."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import preflight
from services.common.git import versions as git_versions
from services.common.git.versions import git_version, git_warning, installed_git, user_agent
from tests.support.in_process_resolver import running_resolver


@pytest.fixture(autouse=True)
def _fresh_answers() -> Iterator[None]:
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
    ("version_line", "expected"),
    [
        ("git version 2.39.5", "git/2.39.5 (Bindery)"),
        ("git version 2.39.5 (Apple Git-154)", "git/2.39.5 (Bindery)"),
        ("git version 2.47.0.windows.2", "git/2.47.0 (Bindery)"),
    ],
)
def test_servers_are_told_that_git_asks(bin_folder: Path, version_line: str, expected: str) -> None:
    put_git(bin_folder, f"echo '{version_line}'")
    assert user_agent() == expected


def test_what_we_say_begins_as_what_git_says() -> None:
    version_line = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    assert user_agent().startswith(f"git/{version_line.split()[2]}")


@pytest.mark.parametrize(
    ("version", "fixed_version"),
    [
        ("2.37.4", "2.37.5"), ("2.37.1 (Apple Git-137.1)", "2.37.5"), ("2.38", "2.38.3"), ("2.38.2", "2.38.3"),
        ("2.39.0", "2.39.1"), ("2.39.0.windows.2", "2.39.1"),
    ],
)  # fmt: skip
def test_a_git_that_a_repository_may_harm_is_warned_of_in_both_places(
    bin_folder: Path, version: str, fixed_version: str
) -> None:
    put_git(bin_folder, f"echo 'git version {version}'")
    warning = git_warning() or ""
    assert "memory errors that a repository's .gitattributes can use (CVE-2022-23521)" in warning
    assert f"update it to {fixed_version} or later, unless your distribution has fixed it" in warning
    assert preflight.git_warning(preflight.check_git()) == warning


@pytest.mark.parametrize(
    "version",
    ["2.37.5", "2.37.7", "2.38.3", "2.39.1", "2.39.5", "2.39.5 (Apple Git-154)", "2.40.0", "2.43.0", "2.51.0", "3.0.0",
     "2.45.GIT"],
)  # fmt: skip
def test_nobody_is_warned_of_another(bin_folder: Path, version: str) -> None:
    put_git(bin_folder, f"echo 'git version {version}'")
    assert git_warning() is None
    assert preflight.git_warning(preflight.check_git()) is None


def test_the_services_and_make_up_know_the_same_releases() -> None:
    assert preflight.GIT_PATCHED == git_versions.PATCHED
    assert preflight.GIT == git_versions.MINIMUM_GIT


async def test_a_resolver_with_such_a_git_says_so_and_starts(
    bin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_git(bin_folder, "echo git version 2.38.1")
    async with running_resolver():
        pass
    assert "update it to 2.38.3 or later" in "".join(capsys.readouterr())
