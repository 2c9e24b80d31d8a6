"""Provider `gist` of the resolver, against GitHub's API: one recorded reply, others after its documentation.

https://docs.github.com/en/rest/gists/gists describes a gist, its `history`, and the list of its commits.
"""

import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.common.models import Visibility
from tests.support.forge import Fault, Forge, Page
from tests.support.forge_pages import json_page
from tests.support.forge_replies import GIST_ID, recorded_gist
from tests.support.in_process_resolver import ResolverClient, replicas, running_resolver

SHA = "7daa381aae8409bfe28193e2ed8f767c26371237"
ID = GIST_ID
LINK = f"mariusvniekerk/{ID}"
OLD = "0123456789abcdef0123456789abcdef01234567"


def version(number: int) -> dict[str, Any]:
    return {"version": f"{number:040x}", "committed_at": "2017-11-29T15:05:48Z"}


@asynccontextmanager
async def resolver_of(forge: Forge, page: Page | None = None, **settings: Any) -> AsyncIterator[ResolverClient]:
    """A resolver for whose GitHub there is one gist."""
    forge.pages[f"/api/gists/{ID}"] = page or recorded_gist()
    async with running_resolver(forge, gist_url="https://gist.test", **settings) as resolver:
        yield resolver


def asked(forge: Forge) -> list[str]:
    return [request.path.removeprefix("/api/gists/") for request in forge.api_requests]


@pytest.mark.parametrize("ref", ["", "/HEAD", "/main", "/master", f"/{SHA}", f"/{SHA[:7]}", f"/{SHA.upper()}"])
async def test_what_github_answered_is_understood(forge: Forge, ref: str) -> None:
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gist", f"{LINK}{ref}")
    left_out = {"v", "quota", "is_own", "config", "resource_class", "content_provider", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "gist",
        "spec": f"{LINK}{ref}",
        "repo_url": f"https://gist.test/{LINK}.git",
        "ref": SHA,
        "resolved_spec": f"{LINK}/{SHA}",
        "ref_url": f"https://gist.test/{LINK}/{SHA}",
        "slug": ID,
        "display_name": LINK,
        "notice": None,
        "visibility": Visibility.PUBLIC,
        "immutable_spec": ref.lower() == f"/{SHA}",
        "ignores_case": True,
    }
    assert asked(forge) == [ID]


async def test_versions_that_did_not_come_with_the_gist_are_looked_for_page_by_page(forge: Forge) -> None:
    pages = [[version(number) for number in range(1, 101)], [version(number) for number in range(101, 151)]]
    async with resolver_of(forge, recorded_gist(history=[version(number) for number in range(1, 31)])) as resolver:
        for ref in (f"{120:040x}", f"{30:040x}"):
            commits: list[Page | list[Page]] = [Page(200, {}, json.dumps(page).encode()) for page in pages]
            forge.pages[f"/api/gists/{ID}/commits"] = commits  # type: ignore[assignment]
            assert (await resolver.repo("gist", f"{LINK}/{ref}")).ref == ref
        assert asked(forge) == [ID, f"{ID}/commits?per_page=100&page=1", f"{ID}/commits?per_page=100&page=2", ID]

        forge.pages[f"/api/gists/{ID}/commits"] = Page(200, {}, json.dumps(pages[1]).encode())
        assert (await resolver.repo("gist", f"{LINK}/{140:040x}")).ref == f"{140:040x}"
        problem = await resolver.problem("gist", f"{LINK}/{OLD}")
    assert problem.code == "ref_not_found"
    assert f"The gist {ID} has no version {OLD}." in problem.detail


async def test_the_search_for_a_version_ends(forge: Forge) -> None:
    forge.pages[f"/api/gists/{ID}/commits"] = Page(200, {}, json.dumps([version(9)] * 100).encode())
    async with resolver_of(forge, gist_versions_max=150) as resolver:
        problem = await resolver.problem("gist", f"{LINK}/{OLD}")
    assert problem.detail == f"The gist {ID} has no version {OLD} among its latest 200."
    assert len(forge.api_requests) == 3


@pytest.mark.parametrize(
    ("page", "spec", "says"),
    [
        (Page(404), LINK, f"There is no gist {ID} on GitHub."),
        (Page(451), LINK, f"GitHub has closed access to the gist {ID}."),
        (json_page(403, {"block": {}}, {}), LINK, f"GitHub has closed access to the gist {ID}."),
        (recorded_gist(history=[]), LINK, f"The gist {ID} is empty: it has no version."),
        (recorded_gist(history=None), LINK, "it has no version"),
        (recorded_gist(history=[None, {"version": "x"}]), LINK, "it has no version"),
        (recorded_gist(), f"{LINK}/wip", f"The gist {ID} has no wip. A gist has no branches"),
        (recorded_gist(), f"someone/{ID}/wip", f"The gist {ID} is not someone's. Did you mean {LINK}/wip?"),
        (recorded_gist(owner=None), LINK, f"Did you mean anonymous/{ID}?"),
        (recorded_gist(public=False), LINK, "only public gists are launched here"),
        (recorded_gist(public=None), LINK, "only public gists are launched here"),
        (Page(200, {}, b"x" * (16 * 2**20 + 1)), LINK, "is too large: its files are more than 16 MiB."),
    ],
)
async def test_what_is_not_there_is_said(forge: Forge, page: Page, spec: str, says: str) -> None:
    async with resolver_of(forge, page) as resolver:
        problem = await resolver.problem("gist", spec)
    assert problem.code == "ref_not_found"
    assert says in problem.detail
    assert asked(forge) == [ID]


async def test_an_owner_in_another_case_and_nobody_at_all_are_recognised(forge: Forge) -> None:
    async with resolver_of(forge) as resolver:
        assert (await resolver.repo("gist", f"MariusVNiekerk/{ID}.git/HEAD")).ref == SHA
    async with resolver_of(forge, recorded_gist(owner=None)) as resolver:
        assert (await resolver.repo("gist", f"anonymous/{ID}")).ref == SHA


async def test_a_secret_gist_is_launched_if_the_operator_says_so_and_cached_for_nobody(
    forge: Forge, redis: Redis
) -> None:
    forge.pages[f"/api/gists/{ID}"] = recorded_gist(public=False)
    async with replicas(forge, redis, {"gist_url": forge.url, "allow_secret_gist": True}) as (resolver,):
        repo = await resolver.repo("gist", f"{LINK}/{SHA}")
    assert repo.visibility is Visibility.PRIVATE
    stored = [await redis.get(key) for key in await redis.keys("*") if b"answer" in key or b"fact" in key]
    assert SHA not in str(stored)


async def test_a_gist_is_asked_again_with_its_etag(forge: Forge, redis: Redis) -> None:
    etag = str(recorded_gist().headers["Etag"])
    forge.pages[f"/api/gists/{ID}"] = [recorded_gist(), Page(304, {"Etag": etag})]
    async with replicas(forge, redis, {"gist_url": forge.url}) as (resolver,):
        for _ in range(2):
            assert (await resolver.repo("gist", LINK)).ref == SHA
            for key in await redis.keys("*flight*"):
                await redis.delete(key)
    assert [request.headers.get("if-none-match") for request in forge.api_requests] == [None, etag]


@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (Page(500), "provider_unavailable", "GitHub answered 500."),
        (Page(403), "provider_unavailable", "GitHub answered 403."),
        (Page(429, {"Retry-After": "90"}), "rate_limited", "Try again in 2 minutes."),
        (Page(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1"}),
         "rate_limited", "GitHub rate limit exceeded."),
    ],
)  # fmt: skip
async def test_outages_and_limits_are_said_also_while_a_version_is_looked_for(
    forge: Forge, page: Page, code: str, says: str
) -> None:
    async with resolver_of(forge, page) as resolver:
        problems = [await resolver.problem("gist", LINK)]
    forge.pages[f"/api/gists/{ID}/commits"] = page
    async with resolver_of(forge) as resolver:
        problems.append(await resolver.problem("gist", f"{LINK}/{OLD}"))
    assert {problem.code for problem in problems} == {code}
    assert all(says in problem.detail for problem in problems)


async def test_a_github_that_does_not_answer_is_given_up(forge: Forge) -> None:
    forge.api_fault = Fault(hold=threading.Event())
    async with running_resolver(forge, gist_url=forge.url, forge_timeout_seconds=0.5) as resolver:
        problem = await resolver.problem("gist", LINK)
    assert (problem.code, problem.detail) == ("provider_unavailable", "GitHub does not answer.")


async def test_the_operators_token_is_sent(forge: Forge) -> None:
    async with resolver_of(forge, github_access_token="abc") as resolver:
        await resolver.repo("gist", LINK)
    assert forge.api_requests[0].headers["authorization"] == "token abc"


BANS: list[Mapping[str, list[str]]] = [
    {"gist": ["MARIUSvniekerk/"]},
    {"*": [f"mariusvniekerk/{ID}/"]},
    {"git": [f"https%3A%2F%2Fgist.test%2Fmariusvniekerk%2F{ID}/"]},
    {"git": [rf"https%3A%2F%2Fgist.test%2F{ID}\.git/"]},
]


@pytest.mark.parametrize("banned", BANS)
@pytest.mark.parametrize("spec", [LINK, f"{LINK}/HEAD", f"{LINK}.git/{SHA}"])
async def test_a_ban_holds_for_every_link(forge: Forge, banned: dict[str, list[str]], spec: str) -> None:
    async with resolver_of(forge, banned_specs=banned) as resolver:
        assert (await resolver.problem("gist", spec)).code == "banned"
    assert forge.requests == []


async def test_branches_are_asked_for_by_git(forge: Forge) -> None:
    forge.create_repo("mariusvniekerk", ID, {"a": "1"}, branch="trunk")
    async with running_resolver(forge, gist_url=forge.url) as resolver:
        body = {"provider": "gist", "repository": LINK, "refs": ["wip", "trunk"]}
        assert (await resolver.client.post("/refs", json=body)).json() == {"existing": ["trunk"]}
    assert forge.api_requests == []


async def test_a_ban_of_gists_holds_for_their_git_urls(forge: Forge) -> None:
    async with resolver_of(forge, banned_specs={"gist": ["mariusvniekerk/"]}) as resolver:
        by_git = f"https%3A%2F%2Fgist.test%2Fmariusvniekerk%2F{ID}.git/HEAD"
        assert (await resolver.problem("git", by_git)).code == "banned"
    assert forge.requests == []


async def test_gists_of_github_are_not_asked_of_an_enterprise_server(forge: Forge) -> None:
    async with running_resolver(forge) as resolver:
        assert (await resolver.problem("gist", LINK)).code == "unknown_provider"
