"""What a git server's first answer tells of its refs, against what `git ls-remote` says of the same repository."""

import subprocess
from pathlib import Path

import pytest

from services.common.git.advertisement import head_advertised, refs_advertised
from tests.support.sample_builds import make_repository

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@t")


def advertisement(folder: Path) -> bytes:
    """What git's own server answers over HTTP."""
    command = ["git", "upload-pack", "--http-backend-info-refs", str(folder)]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    return b"001e# service=git-upload-pack\n0000" + output


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    make_repository(folder, {"README.md": "one"})
    for command in (
        ["branch", "feature/main"],
        ["branch", "xmain"],
        ["tag", "-a", "v1", "-m", "one"],
        ["tag", "light"],
    ):
        subprocess.run(["git", *IDENTITY, *command], cwd=folder, check=True)
    return folder


def refs_by_ls_remote(folder: Path, *patterns: str) -> dict[str, str]:
    result = subprocess.run(
        ["git", "ls-remote", "-q", str(folder), *patterns], capture_output=True, text=True, check=True
    )
    rows = (line.split("\t") for line in result.stdout.splitlines())
    return {name: sha for sha, name in rows}


@pytest.mark.parametrize("patterns", [(), ("HEAD",), ("main", "main^{}"), ("v1", "v1^{}"), ("heads/main",), ("none",)])
def test_it_says_what_git_says(repository: Path, patterns: tuple[str, ...]) -> None:
    assert refs_advertised(advertisement(repository), patterns) == refs_by_ls_remote(repository, *patterns)


def test_a_repository_without_refs_has_none(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "empty")], check=True)
    assert refs_advertised(advertisement(tmp_path / "empty")) == {}


@pytest.mark.parametrize("branch", ["xmain", "feature/main", "gr\udcf6sse"])
def test_it_says_which_branch_head_is(repository: Path, branch: str) -> None:
    subprocess.run(["git", "branch", "gr\udcf6sse"], cwd=repository, check=True)
    subprocess.run(["git", "symbolic-ref", "HEAD", f"refs/heads/{branch}"], cwd=repository, check=True)
    assert head_advertised(advertisement(repository)) == f"refs/heads/{branch}"


def test_a_head_that_is_no_branch_has_none(repository: Path) -> None:
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=repository, check=True)
    assert head_advertised(advertisement(repository)) == ""


def test_a_glob_is_left_to_git(repository: Path) -> None:
    assert refs_advertised(advertisement(repository), ("ma*",)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sign in</html>",
        b"001e# service=git-upload-pack\n0000",
        b"001e# service=git-upload-pack\n0000000eversion 2\n0000",
        b"001e# service=git-upload-pack\n0000zzzz",
        b"001e# service=git-upload-pack\n00000002",
        b"001e# service=git-upload-pack\n0000ffff" + b"a" * 40 + b" HEAD\n",
        b"001f# service=git-receive-pack\n0000" + b"003d" + b"a" * 40 + b" refs/heads/main\n0000",
        b"a" * 40 + b"\trefs/heads/main\n",
    ],
)
def test_anything_else_tells_nothing(body: bytes) -> None:
    assert refs_advertised(body) is None


def test_one_that_is_cut_off_tells_nothing(repository: Path) -> None:
    whole = advertisement(repository)
    for end in range(len(whole)):
        assert refs_advertised(whole[:end]) is None
