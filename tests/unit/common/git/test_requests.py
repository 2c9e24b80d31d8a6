"""What a fetch takes: no more requests to the server, and no more processes of git, than it needs."""

from pathlib import Path
from typing import Any

import pytest

from services.common.git import fetch as git
from services.common.git.fetch import fetch_repository
from services.common.git.process import GitResult, GitRunner
from services.common.net.networks import NetworkPolicy
from tests.support.checkout_git import git_in
from tests.support.forge import Forge

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
LOCATE = ["GET /org/repo/info/refs"]
FETCH = ["GET /org/repo/info/refs", "POST /org/repo/git-upload-pack"]


async def requests_of_fetch(forge: Forge, sha: str, target: Path) -> list[str]:
    forge.requests.clear()
    await fetch_repository(f"{forge.url}/org/repo", sha, target, policy=LOOPBACK, timeout_seconds=60)
    return [f"{request.method} {request.path.partition('?')[0]}" for request in forge.requests]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands of git that were run."""
    names: list[str] = []
    run = GitRunner.run

    async def recorded(self: GitRunner, *arguments: str, **options: Any) -> GitResult:
        names.append(arguments[0])
        return await run(self, *arguments, **options)

    monkeypatch.setattr(GitRunner, "run", recorded)
    return names


async def test_git_is_not_asked_what_is_known(forge: Forge, target: Path, commands: list[str]) -> None:
    sha = forge.create_repo("org", "repo", {"a.txt": "one"})
    await requests_of_fetch(forge, sha, target)
    head = ["for-each-ref", "update-ref", "symbolic-ref"]
    assert commands == ["init", "fetch", "cat-file", "symbolic-ref", "checkout", *head, "ls-files"]


async def test_a_commit_without_a_history_takes_one_fetch(forge: Forge, target: Path) -> None:
    sha = forge.create_repo("org", "repo", {"a.txt": "one"})
    assert await requests_of_fetch(forge, sha, target) == LOCATE + FETCH


async def test_a_history_takes_another_fetch(forge: Forge, target: Path) -> None:
    old = forge.create_repo("org", "repo", {"a.txt": "one"})
    forge.tag("org", "repo", "v1", old)
    sha = forge.commit("org", "repo", {"a.txt": "two"})
    assert await requests_of_fetch(forge, sha, target) == LOCATE + FETCH + FETCH


async def test_a_server_whose_first_answer_is_long_is_asked_for_its_refs(
    forge: Forge, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "ADVERTISEMENT_BYTES", 100)
    sha = forge.create_repo("org", "repo", {"a.txt": "one"})
    assert await requests_of_fetch(forge, sha, target) == LOCATE + FETCH + FETCH
    assert git_in(target, "status", "--short", "--branch") == "## main...origin/main"
