"""Refs that a server is asked for by git's protocol 2: no more than match come back, and git itself is not run."""

import asyncio
import itertools

import pytest

from services.common.git import remote as listing
from services.common.git.packets import packet
from services.common.git.process import GitResult, GitRunner
from services.common.git.remote import list_refs
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from tests.support.forge import Forge, Page

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
UPLOAD_PACK = "/org/repo/git-upload-pack"
SHA = "a" * 40
VERSION_2 = Page(200, {}, packet(b"# service=git-upload-pack\n") + b"0000" + packet(b"version 2\n") + b"0000")


@pytest.fixture(autouse=True)
def _first_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ADVERTISEMENT_BYTES", 0)


@pytest.fixture
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> GitResult:
        raise AssertionError("git is run")

    monkeypatch.setattr(GitRunner, "run", refuse)


async def refs_of(forge: Forge, *patterns: str, max_bytes: int = 2**20, max_processes: int = 4) -> dict[str, str]:
    url = f"{forge.url}/org/repo"
    found = await list_refs(url, *patterns, policy=LOOPBACK, max_bytes=max_bytes, max_processes=max_processes)
    return found.refs


def branches(forge: Forge, sha: str, names: list[str]) -> None:
    rows = "".join(f"create refs/heads/{name} {sha}\n" for name in names)
    forge.git("org", "repo", "update-ref", "--stdin", data=rows.encode())


@pytest.mark.usefixtures("without_git")
async def test_only_what_may_match_comes_back(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    tag = forge.tag("org", "repo", "v1", sha, annotated=True)
    branches(forge, sha, [f"topic/{number}" for number in range(5000)])
    assert await refs_of(forge, "v1", "v1^{}", max_bytes=1000) == {"refs/tags/v1": tag, "refs/tags/v1^{}": sha}
    assert await refs_of(forge, "HEAD", max_bytes=1000) == {"HEAD": sha}
    assert await refs_of(forge, "refs/heads/main", max_bytes=1000) == {"refs/heads/main": sha}
    assert await refs_of(forge, "nothing", max_bytes=1000) == {}
    assert await refs_of(forge, "topic/77", max_bytes=10_000) == {"refs/heads/topic/77": sha}


@pytest.mark.usefixtures("without_git")
async def test_without_patterns_all_come_within_a_bound(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    branches(forge, sha, [f"topic/{number}" for number in range(100)])
    assert len(await refs_of(forge)) == 102
    with pytest.raises(BinderyError, match="sent more than 1000 bytes") as raised:
        await refs_of(forge, max_bytes=1000)
    assert raised.value.code == "provider_unavailable"


@pytest.mark.usefixtures("without_git")
async def test_names_of_any_bytes_and_objects_of_sha256(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"}, object_format="sha256")
    forge.ref("org", "repo", "refs/heads/b\udcff", sha)
    assert await refs_of(forge, "b\udcff") == {"refs/heads/b\udcff": sha}


@pytest.mark.usefixtures("without_git")
@pytest.mark.parametrize(
    "reply",
    [
        Page(200, {}, packet(b"ERR no such thing") + b"0000"),
        Page(200, {}, b"<html>"),
        Page(200, {}, packet(b"abc refs/heads/main\n") + b"0000"),
        Page(200, {}, packet(b"%s refs/heads/main\n" % SHA.encode())[:-5]),
        Page(500, {}, b""),
    ],
)
async def test_what_git_would_not_answer_is_a_server_in_trouble(forge: Forge, reply: Page) -> None:
    forge.pages |= {"/org/repo/info/refs": VERSION_2, UPLOAD_PACK: reply}
    with pytest.raises(BinderyError, match="lists refs in a way that is not git's") as raised:
        await refs_of(forge, "main")
    assert raised.value.code == "provider_unavailable"


@pytest.mark.usefixtures("without_git")
async def test_a_list_without_end_ends(forge: Forge) -> None:
    rows = itertools.repeat(packet(b"%s refs/heads/main\n" % SHA.encode()) * 1000)
    forge.pages |= {"/org/repo/info/refs": VERSION_2, UPLOAD_PACK: Page(200, {}, rows)}
    with pytest.raises(BinderyError, match="sent more than"):
        await refs_of(forge, "main")


async def test_git_is_run_for_so_many_at_a_time(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.speaks_v2 = False
    running: list[int] = []
    may_end = asyncio.Event()
    two_run = asyncio.Event()

    async def run(*_: object, **__: object) -> GitResult:
        running.append(1)
        if sum(running) == 2:
            two_run.set()
        await may_end.wait()
        running.append(-1)
        return GitResult(0, f"{SHA}\trefs/heads/main\n".encode(), "")

    monkeypatch.setattr(GitRunner, "run", run)
    asking = [asyncio.create_task(refs_of(forge, "main", max_processes=2)) for _ in range(6)]
    await two_run.wait()
    may_end.set()
    assert await asyncio.gather(*asking) == [{"refs/heads/main": SHA}] * 6
    assert max(itertools.accumulate(running)) == 2
