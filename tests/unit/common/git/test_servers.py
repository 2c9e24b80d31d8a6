"""Whatever the installed git can clone can be fetched: object formats, protocols, and servers that give tips only."""

import re
from pathlib import Path

import pytest

from services.common.git import commit
from services.common.git.fetch import fetch_repository
from services.common.git.protocol_2 import capabilities
from services.common.git.remote import list_refs
from services.common.git.urls import locate
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from tests.support.bare_repos import Content, Gitlink
from tests.support.checkout_git import git_in
from tests.support.forge import Forge

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
ABSENT = {"sha1": "0" * 39 + "1", "sha256": "0" * 63 + "1"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


@pytest.fixture(params=["v2", "v2 only", "v0", "dumb"])
def way(request: pytest.FixtureRequest, forge: Forge) -> str:
    """How the forge serves its repositories."""
    way: str = request.param
    forge.speaks_v0 = way != "v2 only"
    forge.speaks_v2 = way in {"v2", "v2 only"}
    return way


def url_of(forge: Forge, way: str, name: str = "repo") -> str:
    return f"{forge.url}/dumb/org/{name}" if way == "dumb" else f"{forge.url}/org/{name}"


async def fetch(url: str, ref: str, target: Path) -> list[str]:
    lines: list[str] = []
    await fetch_repository(url, ref, target, policy=LOOPBACK, timeout_seconds=60, on_line=lines.append)
    return lines


async def failure(url: str, ref: str, target: Path) -> BinderyError:
    with pytest.raises(BinderyError) as failed:
        await fetch(url, ref, target)
    return failed.value


def has_commit(folder: Path, sha: str) -> bool:
    return git_in(folder, "cat-file", "-t", sha) == "commit"


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_each_commit_of_each_format_is_fetched(
    forge: Forge, target: Path, way: str, object_format: str, tmp_path: Path
) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one"}, object_format=object_format)
    tip = forge.commit("org", "repo", {"a.txt": "two"})
    url = url_of(forge, way)
    assert (await list_refs(url, "main", policy=LOOPBACK)).refs == {"refs/heads/main": tip}
    for sha, text in ((old, "one"), (tip, "two")):
        checkout = tmp_path / sha
        lines = await fetch(url, sha, checkout)
        assert (checkout / "a.txt").read_text() == text
        assert git_in(checkout, "log", "--format=%H", "origin/main") == f"{tip}\n{old}"
        assert not any(re.search("fatal|left out|could not", line) for line in lines)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_a_missing_commit_is_said(forge: Forge, target: Path, way: str, object_format: str) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"}, object_format=object_format)
    error = await failure(url_of(forge, way), ABSENT[object_format], target)
    assert error.code == "ref_not_found"
    assert error.detail == f"There is no commit {ABSENT[object_format]} in {url_of(forge, way)}."


@pytest.mark.parametrize(("theirs", "digits"), [("sha1", 40), ("sha256", 64)])
@pytest.mark.parametrize("speaks_v2", [True, False])
async def test_a_name_of_the_other_format_is_told_from_a_missing_commit(
    forge: Forge, target: Path, theirs: str, digits: int, speaks_v2: bool
) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"}, object_format=theirs)
    forge.speaks_v2 = speaks_v2
    ours = ABSENT["sha256" if theirs == "sha1" else "sha1"]
    error = await failure(f"{forge.url}/org/repo", ours, target)
    assert (error.code, error.detail) == (
        "ref_not_found", f"There is no commit {ours} in {forge.url}/org/repo: names there have {digits} digits."
    )  # fmt: skip


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_an_empty_repository_is_called_one(forge: Forge, target: Path, way: str, object_format: str) -> None:
    forge.create_repo("org", "repo", {}, object_format=object_format)
    error = await failure(url_of(forge, way), ABSENT[object_format], target)
    assert error.code == "ref_not_found"
    assert error.detail == f"{url_of(forge, way)} is an empty repository: nothing has been committed to it."


async def test_a_commit_that_only_a_detached_head_names_is_fetched(forge: Forge, target: Path, way: str) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.commit("org", "repo", {"a.txt": "two"}, branch="aside")
    sha = forge.git("org", "repo", "rev-parse", "refs/heads/aside")
    forge.git("org", "repo", "update-ref", "--no-deref", "HEAD", sha)
    forge.git("org", "repo", "update-ref", "-d", "refs/heads/aside")
    await fetch(url_of(forge, way), sha, target)
    assert (target / "a.txt").read_text() == "two"


async def test_a_commit_of_a_pull_request_is_fetched(forge: Forge, target: Path, way: str) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"})
    old = forge.commit("org", "repo", {"a.txt": "two"}, branch="theirs")
    tip = forge.commit("org", "repo", {"a.txt": "three"}, branch="theirs")
    forge.ref("org", "repo", "refs/pull/7/head", tip)
    forge.git("org", "repo", "update-ref", "-d", "refs/heads/theirs")
    await fetch(url_of(forge, way), old, target)
    assert (target / "a.txt").read_text() == "two"


async def test_a_server_of_protocol_0_that_gives_tips_by_their_name_is_asked_for_all(
    forge: Forge, target: Path
) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.commit("org", "repo", {"a.txt": "two"})
    forge.git("org", "repo", "config", "uploadpack.allowTipSHA1InWant", "true")
    forge.speaks_v2 = False
    await fetch(f"{forge.url}/org/repo", old, target)
    assert (target / "a.txt").read_text() == "one"


async def test_branches_and_tags_are_asked_for_before_every_pull_request(forge: Forge, target: Path) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.commit("org", "repo", {"a.txt": "two"})
    other = forge.commit("org", "repo", {"big.txt": "of a pull request"}, branch="theirs")
    forge.ref("org", "repo", "refs/pull/7/head", other)
    forge.git("org", "repo", "update-ref", "-d", "refs/heads/theirs")
    forge.speaks_v2 = False
    await fetch(f"{forge.url}/org/repo", old, target)
    assert has_commit(target, old)
    assert not has_commit(target, other)


async def test_a_missing_commit_makes_a_server_of_protocol_2_send_nothing_else(forge: Forge, target: Path) -> None:
    tip = forge.create_repo("org", "repo", {"a.txt": "one"})
    await failure(f"{forge.url}/org/repo", ABSENT["sha1"], target)
    assert not has_commit(target, tip)


async def test_a_server_that_breaks_off_when_it_is_asked_for_its_protocol_is_a_failed_fetch(
    forge: Forge, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks_off(*_arguments: object) -> bool:
        raise BinderyError("provider_unavailable", "127.0.0.1 can't be reached.")

    monkeypatch.setattr(commit, "capabilities", breaks_off)
    forge.create_repo("org", "repo", {"a.txt": "one"})
    error = await failure(f"{forge.url}/org/repo", ABSENT["sha1"], target)
    assert (error.code, error.detail) == ("fetch_failed", "127.0.0.1 can't be reached.")


async def test_submodules_are_of_their_repositorys_format(forge: Forge, target: Path) -> None:
    lib = forge.create_repo("org", "lib", {"lib.txt": "1"}, object_format="sha256")
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n'
    files: dict[str, Content] = {".gitmodules": modules, "lib": Gitlink(lib)}
    sha = forge.create_repo("org", "top", files, object_format="sha256")
    await fetch(f"{forge.url}/org/top", sha, target)
    assert (target / "lib/lib.txt").read_text() == "1"


async def test_thousands_of_tags_are_no_lines_of_the_log(forge: Forge, target: Path, way: str) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one"})
    tip = forge.commit("org", "repo", {"a.txt": "two"})
    updates = "".join(f"create refs/tags/build-{number} {tip}\n" for number in range(2000))
    forge.git("org", "repo", "update-ref", "--stdin", data=updates.encode())
    lines = await fetch(url_of(forge, way), old, target)
    assert (target / "a.txt").read_text() == "one"
    assert not any("build-" in line for line in lines)
    assert "refs/tags/build-1999" in (target / ".git/packed-refs").read_text()
    assert not [path for path in (target / ".git/refs").rglob("*") if "build" in path.name]


async def test_a_server_of_protocol_2_is_told_from_others(forge: Forge, way: str) -> None:
    forge.create_repo("org", "repo", {"a.txt": "one"})
    async with CheckedClient(LOOPBACK) as client:
        remote = await locate(url_of(forge, way), client)
        assert (await capabilities(remote, client)).has_protocol_2 is (way in {"v2", "v2 only"})
