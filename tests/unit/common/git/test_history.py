"""What a checkout has beside its commit: history, branches and tags, up to a size."""

import os
from pathlib import Path

import pytest

from services.common.git.fetch import fetch_repository
from services.common.net.networks import NetworkPolicy
from tests.support.bare_repos import Content, Gitlink
from tests.support.checkout_git import git_in
from tests.support.forge import Fault, Forge

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
SHALLOW = "this is a shallow checkout of one commit."
TOO_LARGE = f"The history and the tags are left out, because they take more than the 64 KiB allowed for them \
(BINDERY_FETCH_HISTORY_MAX_BYTES): {SHALLOW}"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


async def fetch(
    forge: Forge,
    sha: str,
    target: Path,
    max_history_bytes: int = 2**20,
    *,
    name: str = "repo",
    max_bytes: int = 2**24,
    history_timeout_seconds: float = 30.0,
    then: Fault | None = None,
) -> list[str]:
    """Fetch a commit and return the lines; after the first one, git meets the fault `then`."""
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        forge.git_fault = then

    await fetch_repository(
        f"{forge.url}/org/{name}",
        sha,
        target,
        policy=LOOPBACK,
        timeout_seconds=60,
        on_line=on_line,
        max_bytes=max_bytes,
        max_history_bytes=max_history_bytes,
        history_timeout_seconds=history_timeout_seconds,
    )
    return lines


def with_history(forge: Forge, name: str = "repo", *, large: bool = False) -> str:
    """Make a repository of three commits, the first one tagged v1.0, with another branch; return the last commit."""
    files: dict[str, Content] = {"a.txt": "one"}
    if large:
        files["big.bin"] = os.urandom(2**18)
    first = forge.create_repo("org", name, files)
    forge.tag("org", name, "v1.0", first, annotated=True)
    forge.commit("org", name, {"b.txt": "aside"}, branch="aside")
    forge.commit("org", name, {"a.txt": "two", "big.bin": None} if large else {"a.txt": "two"})
    return forge.commit("org", name, {"a.txt": "three"})


async def test_history_branches_and_tags_are_there(forge: Forge, target: Path) -> None:
    sha = with_history(forge)
    lines = await fetch(forge, sha, target)
    assert git_in(target, "rev-list", "--count", "HEAD") == "3"
    assert git_in(target, "describe", "--tags", "--long", "--dirty") == f"v1.0-2-g{sha[:7]}"
    assert (
        git_in(target, "branch", "--remotes", "--format=%(refname:short)") == "origin/HEAD\norigin/aside\norigin/main"
    )
    assert git_in(target, "fsck", "--strict") == ""
    assert not any("BINDERY_FETCH_HISTORY_MAX_BYTES" in line or "[new " in line for line in lines)


async def test_a_tag_of_the_first_commit_is_there_too(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.tag("org", "repo", "v1.0", sha)
    for max_history_bytes in (2**20, 0):
        checkout = target / str(max_history_bytes)
        lines = await fetch(forge, sha, checkout, max_history_bytes)
        assert git_in(checkout, "describe", "--tags") == "v1.0"
        assert not any("left out" in line for line in lines)


async def test_a_history_over_the_limit_is_left_out_with_a_line_and_without_a_trace(
    forge: Forge, target: Path, tmp_path: Path
) -> None:
    sha = with_history(forge, large=True)
    lines = await fetch(forge, sha, target, max_history_bytes=2**16)
    assert lines[-1] == TOO_LARGE
    assert (target / "a.txt").read_text() == "three"
    assert git_in(target, "rev-list", "--count", "HEAD") == "1"
    assert git_in(target, "branch", "--remotes", "--format=%(refname:short)") == "origin/HEAD\norigin/main"
    assert git_in(target, "tag") == ""
    assert git_in(target, "status", "--porcelain") == ""
    assert git_in(target, "fsck") == ""

    await fetch(forge, sha, tmp_path / "never", max_history_bytes=0)
    assert sizes_below(target / ".git/objects") == sizes_below(tmp_path / "never/.git/objects")


def sizes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("annotated", [True, False])
async def test_a_release_has_its_tag_without_the_history(forge: Forge, target: Path, annotated: bool) -> None:
    sha = with_history(forge, large=True)
    forge.tag("org", "repo", "v2.0", sha, annotated=annotated)
    lines = await fetch(forge, sha, target, max_history_bytes=2**16)
    assert TOO_LARGE in lines
    assert git_in(target, "describe", "--tags", "--exact-match") == "v2.0"
    assert git_in(target, "rev-list", "--count", "HEAD") == "1"


async def test_a_limit_of_nothing_asks_for_no_history(forge: Forge, target: Path) -> None:
    sha = with_history(forge)
    lines = await fetch(forge, sha, target, max_history_bytes=0)
    assert "more than the 0 KiB" in lines[-1]
    assert git_in(target, "rev-list", "--count", "HEAD") == "1"


async def test_what_was_fetched_is_not_fetched_again(forge: Forge, target: Path) -> None:
    sha = with_history(forge, large=True)
    big = forge.commit("org", "repo", {"now.bin": os.urandom(2**18)})
    await fetch(forge, big, target, max_history_bytes=2**19)
    assert git_in(target, "merge-base", sha, "HEAD") == sha
    assert sizes_below(target / ".git/objects") < 2 * 2**18 + 2**16


async def test_the_limit_of_the_whole_repository_holds_for_its_history(forge: Forge, target: Path) -> None:
    sha = with_history(forge, large=True)
    lines = await fetch(forge, sha, target, max_bytes=2**17)
    assert lines[-1] == (
        "The history and the tags are left out, because they would make the repository too large "
        f"(BINDERY_FETCH_MAX_BYTES): {SHALLOW}"
    )


async def test_submodules_have_their_history_within_the_same_limit(forge: Forge, target: Path) -> None:
    first = with_history(forge, "first", large=True)
    second = with_history(forge, "second", large=True)
    modules = "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = ../{name}\n' for name in ("first", "second"))
    sha = forge.create_repo("org", "top", {".gitmodules": modules, "first": Gitlink(first), "second": Gitlink(second)})
    lines = await fetch(forge, sha, target, 2**18 + 2**17, name="top")
    assert git_in(target / "first", "describe") == f"v1.0-2-g{first[:7]}"
    assert git_in(target / "second", "rev-list", "--count", "HEAD") == "1"
    assert any(line.startswith("Submodule second: The history and the tags are left out") for line in lines)


async def test_a_server_that_fails_after_the_commit_costs_the_history_only(forge: Forge, target: Path) -> None:
    lines = await fetch(forge, with_history(forge), target, then=Fault(status=503))
    assert (target / "a.txt").read_text() == "three"
    assert lines[-1].startswith("The history and the tags could not be fetched (")
    assert lines[-1].endswith(f"): {SHALLOW}")


async def test_a_history_that_takes_too_long_is_left_out(forge: Forge, target: Path) -> None:
    lines = await fetch(forge, with_history(forge), target, history_timeout_seconds=0.3, then=Fault.holding())
    assert (target / "a.txt").read_text() == "three"
    assert lines[-1] == (
        "The history and the tags are left out, because fetching them took too long "
        f"(BINDERY_FETCH_HISTORY_TIMEOUT_SECONDS): {SHALLOW}"
    )


async def test_another_branch_that_is_too_large_costs_that_branch_only(forge: Forge, target: Path) -> None:
    sha = with_history(forge)
    forge.commit("org", "repo", {"site.bin": os.urandom(2**18)}, branch="gh-pages")
    lines = await fetch(forge, sha, target, max_history_bytes=2**16)
    assert lines[-1] == (
        "The other branches are left out, because they take more than the 64 KiB allowed for them "
        "(BINDERY_FETCH_HISTORY_MAX_BYTES)."
    )
    assert git_in(target, "describe", "--tags", "--long") == f"v1.0-2-g{sha[:7]}"
    assert git_in(target, "branch", "--remotes", "--format=%(refname:short)") == "origin/HEAD\norigin/main"
    assert git_in(target, "fsck", "--strict") == ""


async def test_the_default_branch_is_checked_out_and_follows_its_origin(
    forge: Forge, target: Path, tmp_path: Path
) -> None:
    tip = with_history(forge)
    first = forge.git("org", "repo", "rev-list", "--max-parents=0", "main")
    aside = forge.git("org", "repo", "rev-parse", "aside")
    expected = {tip: "## main...origin/main", first: "## main...origin/main [behind 2]", aside: "## HEAD (no branch)"}
    for sha, status in expected.items():
        checkout = tmp_path / sha
        await fetch(forge, sha, checkout)
        assert git_in(checkout, "status", "--short", "--branch") == status
        assert git_in(checkout, "rev-parse", "HEAD") == sha


async def test_a_commit_of_a_pull_request_has_its_history(forge: Forge, target: Path) -> None:
    with_history(forge)
    forge.ref("org", "repo", "refs/heads/theirs", forge.git("org", "repo", "rev-parse", "main"))
    sha = forge.commit("org", "repo", {"a.txt": "four"}, branch="theirs")
    forge.ref("org", "repo", "refs/pull/7/head", sha)
    forge.git("org", "repo", "update-ref", "-d", "refs/heads/theirs")
    await fetch(forge, sha, target)
    assert git_in(target, "rev-list", "--count", "HEAD") == "4"
    assert git_in(target, "status", "--short", "--branch") == "## HEAD (no branch)"


async def test_a_server_whose_own_repository_is_shallow_gives_what_it_has(
    forge: Forge, target: Path, tmp_path: Path
) -> None:
    sha = with_history(forge)
    source = forge.folder("org", "repo").as_uri()
    forge.create_repo("org", "shallow", {})
    forge.git("org", "shallow", "fetch", "--depth=2", source, "+refs/heads/main:refs/heads/main")
    lines = await fetch(forge, sha, target, name="shallow")
    assert git_in(target, "rev-list", "--count", "HEAD") == "2"
    assert git_in(target, "fsck") == ""
    assert not any("left out" in line for line in lines)
