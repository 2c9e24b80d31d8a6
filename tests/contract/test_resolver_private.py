"""Private repositories that the operator's credentials open: who may read one is found out, and none is kept."""

import json

import pytest
from redis.asyncio import Redis

from services.common.models import Visibility
from tests.support.api_launches import git_spec
from tests.support.forge import Forge, Page
from tests.support.in_process_resolver import replicas, running_resolver

TOKEN = "t0ken-of-the-operator"


def with_private(forge: Forge) -> str:
    forge.create_repo("org", "public", {"a": "1"})
    forge.private["org/private"] = TOKEN
    return forge.create_repo("org", "private", {"a": "2"})


def hosts(forge: Forge) -> dict[str, object]:
    return {"git_credentials": json.dumps({forge.url.removeprefix("http://"): f"password={TOKEN}"})}


@pytest.mark.parametrize("ref", ["main", "HEAD", "sha"])
@pytest.mark.parametrize("provider", ["gh", "git"])
async def test_a_private_repository_is_resolved_and_said_to_be_one(forge: Forge, provider: str, ref: str) -> None:
    sha = with_private(forge)
    ref = sha if ref == "sha" else ref
    settings = {"github_access_token": TOKEN} if provider == "gh" else hosts(forge)
    async with running_resolver(forge, **settings) as resolver:
        for name, visibility in (("private", Visibility.PRIVATE), ("public", Visibility.PUBLIC)):
            at = "main" if ref == sha and name == "public" else ref
            spec = f"org/{name}/{at}" if provider == "gh" else git_spec(f"{forge.url}/org/{name}", at)
            repo = await resolver.repo(provider, spec)
            assert repo.visibility is visibility
            assert repo.ref == sha or name == "public"
    assert TOKEN not in repo.model_dump_json()


@pytest.mark.parametrize("provider", ["gh", "git"])
async def test_without_the_credential_it_is_not_there(forge: Forge, provider: str) -> None:
    with_private(forge)
    spec = "org/private/main" if provider == "gh" else git_spec(f"{forge.url}/org/private", "main")
    async with running_resolver(forge) as resolver:
        problem = await resolver.problem(provider, spec)
    assert problem.code == "ref_not_found"


async def test_a_token_that_can_only_read_what_is_public_costs_no_second_request(forge: Forge) -> None:
    with_private(forge)
    page = forge.commit_reply("org", "public", "main", "")
    forge.pages["/api/repos/org/public/commits/main"] = Page(
        page.status, {**page.headers, "X-OAuth-Scopes": "gist"}, page.body
    )
    async with running_resolver(forge, github_access_token=TOKEN) as resolver:
        assert (await resolver.repo("gh", "org/public/main")).visibility is Visibility.PUBLIC
        assert len(forge.api_requests) == 1
        forge.pages.clear()
        await resolver.repo("gh", "org/public/main")
    assert [request.path for request in forge.api_requests[1:]] == [
        "/api/repos/org/public/commits/main", "/api/repos/org/public",
    ]  # fmt: skip


async def test_access_is_asked_anew_each_time_and_nothing_is_kept(forge: Forge, redis: Redis) -> None:
    sha = with_private(forge)
    async with replicas(forge, redis, {"github_access_token": TOKEN}) as (resolver,):
        for spec in ("org/private/main", f"org/private/{sha}"):
            assert (await resolver.repo("gh", spec)).ref == sha
        assert not [key async for key in redis.scan_iter("*answer:*")]
        assert not [key async for key in redis.scan_iter("*fact:*")]
        forge.private["org/private"] = "another"
        for spec in ("org/private/main", f"org/private/{sha}"):
            assert (await resolver.problem("gh", spec)).code == "ref_not_found"


async def test_one_that_has_become_private_is_not_taken_for_public_as_its_commit_is_the_same(
    forge: Forge, redis: Redis
) -> None:
    with_private(forge)
    async with replicas(forge, redis, {"github_access_token": TOKEN}) as (resolver,):
        assert (await resolver.repo("gh", "org/public/main")).visibility is Visibility.PUBLIC
        forge.private["org/public"] = TOKEN
        assert (await resolver.repo("gh", "org/public/main")).visibility is Visibility.PRIVATE
