"""Provider `bb` of the resolver, against a real git server, and replies after the documentation of Bitbucket's API.

https://developer.atlassian.com/cloud/bitbucket/rest/api-group-commits/ has a commit, …/api-group-refs/ a branch and a
tag, and …/api-group-repositories/ a repository; https://developer.atlassian.com/cloud/bitbucket/rest/intro/ the errors.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.common.models import Visibility
from tests.support.forge import Fault, Forge, Page
from tests.support.forge_replies import (
    BITBUCKET_NO_ACCESS,
    BITBUCKET_NO_COMMIT,
    bitbucket_branch,
    bitbucket_commit,
    bitbucket_repository,
)
from tests.support.in_process_resolver import ResolverClient, replicas, running_resolver

SHA = "0123456789abcdef0123456789abcdef01234567"
API = "/api/2.0/repositories/team/notes"


def settings_of(forge: Forge, token: str = "") -> dict[str, Any]:
    return {"bitbucket_url": forge.url, "bitbucket_api_url": f"{forge.api_url}/2.0", "bitbucket_token": token}


@asynccontextmanager
async def resolver_of(forge: Forge, token: str = "", **settings: Any) -> AsyncIterator[ResolverClient]:
    """A resolver for which the forge is Bitbucket, and no GitHub."""
    async with running_resolver(**settings_of(forge, token), **settings) as resolver:
        yield resolver


@pytest.mark.parametrize("ref", ["HEAD", "wip/of/me", "wip%2Fof%2Fme", "v1", "refs/heads/wip/of/me"])
async def test_a_name_is_asked_of_git(forge: Forge, ref: str) -> None:
    """`v1` is an annotated tag."""
    sha = forge.create_repo("team", "notes", {"a": "1"}, branch="wip/of/me")
    forge.tag("team", "notes", "v1", sha, annotated=True)
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("bb", f"team/notes/{ref}")
    assert forge.api_requests == []
    left_out = {"v", "quota", "is_own", "config", "resource_class", "content_provider", "notice"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "bb",
        "spec": f"team/notes/{ref}",
        "repo_url": f"{forge.url}/team/notes",
        "ref": sha,
        "resolved_spec": f"team/notes/{sha}",
        "ref_url": f"{forge.url}/team/notes/src/{sha}",
        "slug": f"bb-127.0.0.1:{forge.port}-team-notes",
        "display_name": "team/notes",
        "visibility": Visibility.PUBLIC,
        "immutable_spec": False,
        "ignores_case": True,
        "reached_url": None,
    }


@pytest.mark.parametrize("ref", [SHA, SHA[:7], SHA.upper()])
async def test_a_commit_is_asked_of_the_api(forge: Forge, ref: str) -> None:
    forge.create_repo("team", "notes", {"a": "1"})
    forge.pages[f"{API}/commit/{ref}"] = bitbucket_commit(SHA)
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("bb", f"team/notes/{ref}")
    assert (repo.ref, repo.immutable_spec) == (SHA, len(ref) == 40)
    assert [request.path for request in forge.api_requests] == [f"{API}/commit/{ref}?fields=hash,repository.full_name"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("team/notes/nosuchref", "There is no branch, tag or commit nosuchref in team/notes on Bitbucket."),
        (f"team/notes/{SHA}", f"There is no branch, tag or commit {SHA} in team/notes on Bitbucket."),
        ("team/nothing/HEAD", "There is no public repository team/nothing on Bitbucket."),
        (f"team/hidden/{SHA}", "There is no public repository team/hidden on Bitbucket."),
        ("team/empty/HEAD", "There is no branch, tag or commit HEAD in team/empty on Bitbucket."),
    ],
)
async def test_what_is_not_there_or_not_public_is_said(forge: Forge, spec: str, says: str) -> None:
    forge.create_repo("team", "notes", {"a": "1"})
    forge.create_repo("team", "empty", {})
    forge.pages[f"{API}/commit/{SHA}"] = BITBUCKET_NO_COMMIT
    forge.pages[f"/api/2.0/repositories/team/hidden/commit/{SHA}"] = BITBUCKET_NO_ACCESS
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("bb", spec)
    assert (problem.code, problem.detail) == ("ref_not_found", says)


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Fault(status=500), "provider_unavailable", "500"),
        (Fault(status=429, headers={"Retry-After": "90"}), "rate_limited", ""),
        (Fault(hold=threading.Event()), "provider_unavailable", ""),
    ],
)
@pytest.mark.parametrize("ref", ["main", SHA])
async def test_outages_and_limits_are_said(forge: Forge, fault: Fault, code: str, says: str, ref: str) -> None:
    forge.create_repo("team", "notes", {"a": "1"})
    forge.api_fault = forge.git_fault = fault
    seconds = fault.timeout_seconds
    async with resolver_of(forge, forge_timeout_seconds=seconds, git_timeout_seconds=seconds) as resolver:
        problem = await resolver.problem("bb", f"team/notes/{ref}")
    assert problem.code == code
    assert says in problem.detail


async def test_another_status_of_the_api_is_an_outage(forge: Forge) -> None:
    forge.pages[f"{API}/commit/{SHA}"] = Page(418)
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("bb", f"team/notes/{SHA}")
    assert (problem.code, problem.detail) == ("provider_unavailable", "Bitbucket answered 418.")


@pytest.mark.parametrize(
    ("ref", "pages"),
    [
        ("HEAD", {"refs/branches/feed5eed": bitbucket_branch(SHA)}),
        ("wip/me", {"refs/branches/wip%2Fme": bitbucket_branch(SHA)}),
        ("v1", {"refs/branches/v1": BITBUCKET_NO_COMMIT, "refs/tags/v1": bitbucket_branch(SHA)}),
        (SHA[:8], {f"commit/{SHA[:8]}": bitbucket_commit(SHA)}),
        (SHA, {f"commit/{SHA}": bitbucket_commit(SHA)}),
    ],
)
async def test_with_a_token_what_is_private_is_asked_of_the_api_and_not_kept(
    forge: Forge, redis: Redis, ref: str, pages: dict[str, Page]
) -> None:
    forge.pages[API] = bitbucket_repository(is_private=True, branch="feed5eed")
    for path, page in pages.items():
        forge.pages[f"{API}/{path}"] = page
    async with replicas(forge, redis, settings_of(forge, "secret")) as (resolver,):
        repo = await resolver.repo("bb", f"team/notes/{ref}")
    assert (repo.ref, repo.visibility) == (SHA, Visibility.PRIVATE)
    assert {request.headers["authorization"] for request in forge.api_requests} == {"Bearer secret"}
    assert await redis.keys("*answer*") == []


async def test_with_a_token_a_public_commit_is_public_and_a_missing_repository_missing(forge: Forge) -> None:
    forge.pages[API] = [bitbucket_repository(is_private=False), BITBUCKET_NO_ACCESS]
    forge.pages[f"{API}/commit/{SHA}"] = bitbucket_commit(SHA)
    async with resolver_of(forge, "secret", bitbucket_user="ann@x.example") as resolver:
        assert (await resolver.repo("bb", f"team/notes/{SHA}")).visibility is Visibility.PUBLIC
        problem = await resolver.problem("bb", "team/notes/main")
    assert problem.detail == "There is no public repository team/notes on Bitbucket."
    assert forge.api_requests[0].headers["authorization"] == "Basic YW5uQHguZXhhbXBsZTpzZWNyZXQ="


async def test_a_renamed_repository_is_known_by_its_new_name_too(forge: Forge) -> None:
    sha = forge.create_repo("evil", "new", {"a": "1"})
    forge.pages["/team/notes/info/refs"] = Page(
        301, {"Location": f"{forge.url}/evil/new/info/refs?service=git-upload-pack"}
    )
    forge.pages[f"{API}/commit/{sha}"] = bitbucket_commit(sha, "evil/new")
    for ref in ("HEAD", sha):
        async with resolver_of(forge) as resolver:
            repo = await resolver.repo("bb", f"team/notes/{ref}")
        assert (repo.ref, repo.reached_url) == (sha, f"{forge.url}/evil/new")
        async with resolver_of(forge, banned_specs={"bb": ["evil/new/"]}) as resolver:
            assert (await resolver.problem("bb", f"team/notes/{ref}")).code == "banned"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("team", 'Spec is not of the form "workspace/repo/ref": "team".'),
        ("team/notes", 'Did you mean "team/notes/HEAD"?'),
        ("team/../main", "'..' can't be the name of a workspace or repository"),
        ("te%2Fam/notes/main", "'te%2Fam' can't be the name of a workspace or repository"),
        ("team/.git/main", "'' can't be the name of a workspace or repository"),
        ("team/notes/a..b", "can't be the name of a branch, tag or commit"),
    ],
)
async def test_bad_links_are_refused_unasked(forge: Forge, spec: str, says: str) -> None:
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("bb", spec)
    assert problem.code == "bad_spec"
    assert says in problem.detail
    assert forge.requests == []


async def test_a_ban_holds_for_every_link(forge: Forge) -> None:
    by_git = f"http%3A%2F%2F127.0.0.1%3A{forge.port}%2Fevil%2Fx"
    for banned in ({"bb": ["evil/x/"]}, {"git": [f"{by_git}/"]}):
        async with resolver_of(forge, banned_specs=banned) as resolver:
            for provider, spec in (("bb", "Evil/x.git/HEAD"), ("bb", f"evil/x/{SHA}"), ("git", f"{by_git}.git/main")):
                assert (await resolver.problem(provider, spec)).code == "banned"
    assert forge.requests == []


async def test_branches_are_asked_for_by_git(forge: Forge) -> None:
    forge.create_repo("team", "notes", {"a": "1"}, branch="wip/of")
    async with resolver_of(forge) as resolver:
        body = {"provider": "bb", "repository": "team/notes", "refs": ["wip/of/me", "wip/of", "wip"]}
        assert (await resolver.client.post("/refs", json=body)).json() == {"existing": ["wip/of"]}
    assert forge.api_requests == []
