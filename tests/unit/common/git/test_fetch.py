"""Fetching one commit from real git servers, with its submodules."""

import os
import re
import tempfile
import threading
from pathlib import Path

import pytest

from services.common.git import fetch as git
from services.common.git import remote
from services.common.git.fetch import fetch_repository
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from tests.support.bare_repos import Content, Gitlink, Link
from tests.support.checkout_git import git_in
from tests.support.forge import Fault, Forge, Page

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
ABSENT = "0" * 39 + "1"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


async def fetch(url: str, ref: str, target: Path, max_bytes: int = 2**30, seconds: float = 60.0) -> list[str]:
    lines: list[str] = []
    await fetch_repository(
        url, ref, target, policy=LOOPBACK, timeout_seconds=seconds, on_line=lines.append, max_bytes=max_bytes
    )
    return lines


async def failure(url: str, ref: str, target: Path, max_bytes: int = 2**30, seconds: float = 60.0) -> BinderyError:
    with pytest.raises(BinderyError) as failed:
        await fetch(url, ref, target, max_bytes, seconds)
    return failed.value


def gitmodules(*modules: tuple[str, str]) -> str:
    return "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, url in modules)


async def test_a_commit_is_checked_out_with_gits_own_lines(forge: Forge, target: Path) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one", "bin/run": "#!/bin/sh\n"})
    forge.commit("org", "repo", {"a.txt": "two"})
    lines = await fetch(f"{forge.url}/org/repo", old, target)
    assert (target / "a.txt").read_text() == "one"
    assert os.access(target / "bin/run", os.X_OK)
    assert any("Receiving objects" in line or "Counting objects" in line for line in lines)


@pytest.mark.parametrize("way", ["v2", "v0", "dumb"])
async def test_a_missing_commit_is_said(forge: Forge, target: Path, way: str) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.speaks_v2 = way == "v2"
    error = await failure(f"{forge.url}/dumb/org/repo" if way == "dumb" else f"{forge.url}/org/repo", ABSENT, target)
    assert error.code == "ref_not_found"
    assert f"There is no commit {ABSENT}" in error.detail


async def test_a_missing_repository_is_said(forge: Forge, target: Path) -> None:
    error = await failure(f"{forge.url}/org/missing", ABSENT, target)
    assert error.code == "ref_not_found"
    assert "no public git repository" in error.detail


@pytest.mark.parametrize("ref", ["main", "--upload-pack=touch x", ABSENT[:12], ABSENT + "0", ABSENT * 2])
async def test_only_whole_shas_are_fetched(forge: Forge, target: Path, ref: str) -> None:
    error = await failure(f"{forge.url}/org/repo", ref, target)
    assert error.code == "bad_spec"
    assert forge.requests == []


async def test_a_server_in_trouble_is_a_failed_fetch(forge: Forge, target: Path) -> None:
    forge.git_fault = Fault(status=503)
    error = await failure(f"{forge.url}/org/repo", ABSENT, target)
    assert error.code == "fetch_failed"
    assert "answered 503" in error.detail


async def test_a_fetch_ends_at_its_deadline(forge: Forge, target: Path) -> None:
    forge.git_fault = Fault(hold=threading.Event())
    error = await failure(f"{forge.url}/org/repo", ABSENT, target, seconds=0.3)
    assert error.code == "fetch_failed"
    assert "took over" in error.detail


@pytest.mark.slow
async def test_a_repository_over_the_limit_is_refused(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {"big.bin": os.urandom(3 * 2**20)})
    error = await failure(f"{forge.url}/org/repo", sha, target, max_bytes=2**20)
    assert error.code == "repository_too_large"
    assert "larger than the 1 MiB" in error.detail


async def test_terminal_escapes_of_the_server_do_not_reach_the_log(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {"a\x1b[31m.txt": "x"})
    lines = await fetch(f"{forge.url}/org/repo", sha, target)
    assert not any(re.search(r"[\x00-\x1f\x7f]", line) for line in lines)


async def test_submodules_are_fetched_level_by_level(forge: Forge, target: Path) -> None:
    leaf = forge.create_repo("org", "leaf", {"leaf.txt": "leaf"})
    middle = forge.create_repo(
        "org", "middle", {".gitmodules": gitmodules(("deep/leaf", "../leaf")), "deep/leaf": Gitlink(leaf)}
    )
    forge.commit("org", "middle", {"later.txt": "not this one"})
    top = forge.create_repo(
        "org",
        "top",
        {".gitmodules": gitmodules(("lib/middle", f"{forge.url}/org/middle.git")), "lib/middle": Gitlink(middle)},
    )
    lines = await fetch(f"{forge.url}/org/top", top, target)
    assert (target / "lib/middle/deep/leaf/leaf.txt").read_text() == "leaf"
    assert not (target / "lib/middle/later.txt").exists()
    assert f"Fetching submodule lib/middle from {forge.url}/org/middle.git" in lines


async def test_git_knows_the_submodules_as_those_in_use(forge: Forge, target: Path) -> None:
    leaf = forge.create_repo("org", "leaf", {"leaf.txt": "leaf"})
    middle = forge.create_repo("org", "middle", {".gitmodules": gitmodules(("a b", "../leaf")), "a b": Gitlink(leaf)})
    files: dict[str, Content] = {".gitmodules": gitmodules(("middle", "../middle")), "middle": Gitlink(middle)}
    await fetch(f"{forge.url}/org/top", forge.create_repo("org", "top", files), target)
    lines = git_in(target, "submodule", "status", "--recursive").splitlines()
    assert [line.split(" (")[0] for line in lines] == [f" {middle} middle", f" {leaf} middle/a b"]


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("http://10.0.0.8/x", "address_not_allowed", "Submodule lib: 10.0.0.8 may not be reached"),
        ("http://[::1]:1/x", "address_not_allowed", "Submodule lib: ::1 may not be reached"),
        ("file:///etc", "build_failed", "Submodule lib: Unsupported git url file:///etc"),
        ("git@10.0.0.8:a/b", "address_not_allowed", "Submodule lib: 10.0.0.8 may not be reached"),
        ("ssh://git@169.254.169.254:2222/a/b", "address_not_allowed", "Submodule lib: 169.254.169.254 may not be"),
        (
            "ssh://git@127.0.0.1/a/../../b",
            "build_failed",
            "Submodule lib: 'https://127.0.0.1/a/../../b' can be read in",
        ),
        ("--upload-pack=touch${IFS}x", "build_failed", "Submodule lib: A git URL can't begin with a dash"),
        ("ext::sh", "build_failed", "Submodule lib: Unsupported git url"),
        ("../../../../etc", "build_failed", "Submodule lib: '../../../../etc' leads out of"),
        ("../missing", "build_failed", "Submodule lib: There is no public git repository at"),
    ],
)
async def test_a_submodule_is_checked_as_the_repository_was(
    forge: Forge, target: Path, url: str, code: str, says: str
) -> None:
    sha = forge.create_repo("org", "repo", {".gitmodules": gitmodules(("lib", url)), "lib": Gitlink(ABSENT)})
    error = await failure(f"{forge.url}/org/repo", sha, target)
    assert error.code == code
    assert says in error.detail


async def test_a_submodule_that_redirects_to_a_forbidden_address_is_refused(forge: Forge, target: Path) -> None:
    forge.pages["/org/lib/info/refs"] = Page(307, {"Location": "http://169.254.169.254/info/refs"})
    sha = forge.create_repo("org", "repo", {".gitmodules": gitmodules(("lib", "../lib")), "lib": Gitlink(ABSENT)})
    error = await failure(f"{forge.url}/org/repo", sha, target)
    assert error.code == "address_not_allowed"
    assert "Submodule lib: 169.254.169.254 may not be reached" in error.detail


async def test_a_link_in_the_way_of_a_submodule_is_not_followed(forge: Forge, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    lib = forge.create_repo("org", "lib", {"planted.txt": "x"})
    sha = forge.create_repo(
        "org", "repo", {".gitmodules": gitmodules(("out", "../lib")), "out": Link(str(outside)), "x": Gitlink(lib)}
    )
    await fetch(f"{forge.url}/org/repo", sha, target)
    assert list(outside.iterdir()) == []
    assert list((target / "x").iterdir()) == []


async def test_gitmodules_that_is_a_link_is_refused(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {".gitmodules": Link("/etc/passwd"), "lib": Gitlink(ABSENT), "a": "1"})
    error = await failure(f"{forge.url}/org/repo", sha, target)
    assert error.code == "build_failed"
    assert "invalid path '.gitmodules'" in error.detail


async def test_gitmodules_that_is_nonsense_is_the_authors_move(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {".gitmodules": "[submodule \n", "lib": Gitlink(ABSENT)})
    error = await failure(f"{forge.url}/org/repo", sha, target)
    assert error.code == "build_failed"
    assert ".gitmodules can't be read" in error.detail


@pytest.mark.parametrize("limit", ["MAX_SUBMODULES", "MAX_DEPTH"])
async def test_submodules_without_end_are_refused(
    forge: Forge, target: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, limit, 2)
    sha = forge.create_repo("org", "s0", {"a": "1"})
    for number in range(1, 4):
        files: dict[str, Content] = {".gitmodules": gitmodules(("s", f"../s{number - 1}")), "s": Gitlink(sha)}
        sha = forge.create_repo("org", f"s{number}", files)
    error = await failure(f"{forge.url}/org/s3", sha, target)
    assert error.code == "build_failed"
    assert "more submodules than are fetched" in error.detail


async def test_hooks_and_filters_of_the_repository_do_not_run(forge: Forge, target: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = f"touch {mark}"
    config = f'[filter "evil"]\n\tsmudge = {program}\n[core]\n\tfsmonitor = {program}\n\thooksPath = hooks\n'
    sha = forge.create_repo(
        "org",
        "repo",
        {
            ".gitattributes": "* filter=evil\n*.npy filter=lfs\n",
            ".gitconfig": config,
            "config": config,
            ".lfsconfig": f'[lfs]\n\tfetchinclude = *\n[lfs "customtransfer.evil"]\n\tpath = {program}\n',
            "hooks/post-checkout": f"#!/bin/sh\n{program}\n",
            "objects/info/alternates": "/etc\n",
            "a": "1",
        },
    )
    await fetch(f"{forge.url}/org/repo", sha, target)
    assert (target / "a").exists()
    assert not mark.exists()
    assert not (target / ".git/objects/info/alternates").exists()


async def test_a_configuration_above_the_temporary_folder_is_not_gits(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "a repository"
    (above / ".git").mkdir(parents=True)
    for name in ("objects", "refs"):
        (above / ".git" / name).mkdir()
    (above / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (above / ".git/config").write_text(f'[url "http://127.0.0.1:1/"]\n\tinsteadOf = {forge.url}/\n')
    monkeypatch.setattr(tempfile, "tempdir", str(above))
    monkeypatch.setattr(remote, "ADVERTISEMENT_BYTES", 0)  # so that git itself asks
    sha = forge.create_repo("org", "repo", {"a": "1"})
    listing = await remote.list_refs(f"{forge.url}/org/repo", "HEAD", policy=LOOPBACK)
    assert listing.refs == {"HEAD": sha}


async def test_names_that_are_not_utf_8_are_checked_out_and_can_be_shown(forge: Forge, target: Path) -> None:
    lib = forge.create_repo("org", "lib", {"lib.txt": "1"})
    path = os.fsdecode(b"caf\xe9")
    modules = b'[submodule "x"]\n\tpath = caf\xe9\n\turl = ../lib\n'
    sha = forge.create_repo("org", "repo", {".gitmodules": modules, path: Gitlink(lib)})
    lines = await fetch(f"{forge.url}/org/repo", sha, target)
    assert (target / path / "lib.txt").read_text() == "1"
    assert "Fetching submodule caf? from ../lib" in lines
