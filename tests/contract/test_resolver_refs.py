"""Which of some refs a repository has, asked of the resolver and by it of a real git server; and refs of any name."""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.common.models import MAX_CANDIDATE_REFS
from tests.support.forge import Fault, Forge
from tests.support.in_process_resolver import ResolverClient, running_resolver
from tests.support.polling import until

CANDIDATES = ["wip/of/me", "wip/of", "wip"]


async def ask(resolver: ResolverClient, provider: str, repository: str, refs: list[str]) -> httpx.Response:
    body = {"provider": provider, "repository": repository, "refs": refs}
    return await resolver.client.post("/refs", json=body)


async def existing(resolver: ResolverClient, provider: str, repository: str, refs: list[str]) -> list[str]:
    reply = await ask(resolver, provider, repository, refs)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["existing"])


async def problem(resolver: ResolverClient, provider: str, repository: str) -> dict[str, Any]:
    reply = await ask(resolver, provider, repository, CANDIDATES)
    assert reply.status_code >= 400, reply.text
    return dict(reply.json())


def by_git(forge: Forge, path: str) -> str:
    return quote(f"{forge.url}/{path}", safe="")


async def test_branches_and_tags_that_exist_are_told_with_one_request(forge: Forge) -> None:
    sha = forge.create_repo("ann", "notes", {"a": "1"}, branch="wip/of")
    forge.tag("ann", "notes", "v1/beta", sha, annotated=True)
    forge.ref("ann", "notes", "refs/pull/3/head", sha)
    refs = ["wip/of/me", "wip/of", "wip", "of", "v1/beta", "refs/heads/wip/of", "refs/pull/3/head", sha, "HEAD"]
    expected = ["wip/of", "v1/beta", "refs/heads/wip/of", "refs/pull/3/head", sha, "HEAD"]
    async with running_resolver(forge) as resolver:
        for provider, repository in (("gh", "ann/notes"), ("git", by_git(forge, "ann/notes"))):
            before = len(forge.requests)
            assert await existing(resolver, provider, repository, refs) == expected
            assert len(forge.requests) == before + 1
    assert forge.api_requests == []


async def test_what_can_be_no_ref_is_left_out_and_asked_of_nobody(forge: Forge) -> None:
    async with running_resolver(forge) as resolver:
        for ref in ("a..b", "a b", "a\\b", "*", "a?", "[a]", ""):
            assert await existing(resolver, "gh", "ann/notes", [ref]) == []
    assert forge.requests == []


async def test_a_repository_that_is_not_there_is_said(forge: Forge) -> None:
    async with running_resolver(forge) as resolver:
        assert (await problem(resolver, "gh", "ann/none"))["code"] == "ref_not_found"


@pytest.mark.parametrize(
    ("status", "headers", "code"), [(429, {"Retry-After": "7"}, "rate_limited"), (502, {}, "provider_unavailable")]
)
async def test_a_limit_and_an_outage_are_said(forge: Forge, status: int, headers: dict[str, str], code: str) -> None:
    forge.git_fault = Fault(status=status, headers=headers)
    async with running_resolver(forge) as resolver:
        told = await problem(resolver, "gh", "ann/notes")
    assert told["code"] == code
    assert code != "rate_limited" or told["retry_after_seconds"] == 7


async def test_a_forge_that_does_not_answer_is_given_up(forge: Forge) -> None:
    forge.git_fault = Fault.holding()
    async with running_resolver(forge, resolve_timeout_seconds=0.2) as resolver:
        assert (await problem(resolver, "gh", "ann/notes"))["code"] == "provider_unavailable"
    forge.git_fault.release()


async def test_no_address_is_asked_that_may_not_be_reached(forge: Forge) -> None:
    async with running_resolver(forge, allowed_networks="") as resolver:
        assert (await problem(resolver, "git", by_git(forge, "ann/notes")))["code"] == "address_not_allowed"
        assert (await problem(resolver, "gh", "ann/notes"))["code"] == "address_not_allowed"
        for url in ("file:///etc", "https://ann:secret@x.example/notes", "--upload-pack=x"):
            assert (await problem(resolver, "git", quote(url, safe="")))["code"] == "bad_spec"
    assert forge.requests == []


async def test_a_banned_repository_is_not_asked(forge: Forge) -> None:
    async with running_resolver(forge, banned_specs={"gh": ["ann/"]}) as resolver:
        assert (await problem(resolver, "gh", "ann/notes"))["code"] == "banned"
        assert (await problem(resolver, "git", by_git(forge, "ann/notes")))["code"] == "banned"
    assert forge.requests == []


async def test_the_same_question_at_once_is_one_request(forge: Forge) -> None:
    forge.create_repo("ann", "notes", {"a": "1"}, branch="wip")
    fault = forge.git_fault = Fault.holding()
    async with running_resolver(forge) as resolver, asyncio.TaskGroup() as group:
        tasks = [group.create_task(existing(resolver, "gh", "ann/notes", CANDIDATES)) for _ in range(20)]
        await until(lambda: forge.requests)
        fault.release()
        await asyncio.wait(tasks)
    assert [task.result() for task in tasks] == [["wip"]] * 20
    assert len(forge.requests) == 1


async def test_a_question_is_bounded_and_of_our_own_services(forge: Forge) -> None:
    async with running_resolver(forge) as resolver:
        too_many = [f"r{number}" for number in range(MAX_CANDIDATE_REFS + 1)]
        for refs in ([], too_many):
            assert (await ask(resolver, "gh", "ann/notes", refs)).status_code == 422
        assert (await problem(resolver, "nosuch", "ann/notes"))["code"] == "unknown_provider"
        body = {"provider": "gh", "repository": "ann/notes", "refs": ["a"]}
        reply = await resolver.client.post("/refs", json=body, headers={"Authorization": "Bearer wrong"})
    assert reply.status_code == 401
    assert forge.requests == []


ODD_REFS = [
    "fix#12", "100%", "50%25", "a+b", "a&b=c;d", '"quoted"', "it's", "{x}", "<y>", "a|b", "$HOME", "`x`", "wow!",
    "(new)", "a,b", "ünï", "数据", "\U0001f980", "\U0001f469\u200d\U0001f4bb", "no\u00a0break", "a@b", "a]b",
    "wip/of/me#1/50%", "_", "x.y",
]  # fmt: skip


async def test_every_name_that_git_allows_is_resolved(forge: Forge) -> None:
    sha = forge.create_repo("ann", "notes", {"a": "1"}, branch="trunk")
    for ref in ODD_REFS:
        forge.ref("ann", "notes", f"refs/heads/{ref}", sha)
    forge.ref("ann", "notes", "refs/heads/-dash", sha)
    names = [*ODD_REFS, "refs/heads/-dash", "-dash"]
    async with running_resolver(forge) as resolver:
        for provider, repository in (("gh", "ann/notes"), ("git", by_git(forge, "ann/notes"))):
            resolved = {ref: (await resolver.repo(provider, f"{repository}/{quote(ref)}")).ref for ref in names}
            assert resolved == dict.fromkeys(names, sha)
            assert await existing(resolver, provider, repository, names) == names


async def test_a_sentence_about_a_ref_shows_what_no_terminal_should_print(forge: Forge) -> None:
    forge.create_repo("ann", "notes", {"a": "1"})
    async with running_resolver(forge) as resolver:
        for provider, repository in (("gh", "ann/notes"), ("git", by_git(forge, "ann/notes"))):
            told = await resolver.problem(provider, f"{repository}/{quote('x' + chr(0x202E) + chr(0x9B))}")
            assert told.code == "ref_not_found"
            assert "commit x??" in told.detail
