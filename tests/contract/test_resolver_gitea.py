"""Provider `gitea` of the resolver, against what a real Gitea answered (`tests/support/gitea_recording.py`).

It has no limits of its own. Those of a proxy before it are after RFC 6585: 429, with or without a time.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.common.models import Visibility
from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.repository_types import RepositoryType
from services.resolver.providers.gitea import Gitea
from services.resolver.settings import ResolverSettings
from tests.support.forge import Fault, Forge, Page
from tests.support.forge_replies import gitea_path, gitea_replies, recorded_gitea
from tests.support.in_process_resolver import ResolverClient, replicas, running_resolver
from tests.support.settings import settings_for

REPLIES = gitea_replies()
SHA = REPLIES["HEAD"]["response"]["json"]["sha"]
COMMITS = "/api/v1/repos/ann/notes/git/commits/"


def hosts(forge: Forge, token: str = "") -> dict[str, Any]:
    return {"giteas": {"gitea.test": {"url": forge.url, "token": token}}}


@asynccontextmanager
async def resolver_of(forge: Forge, *names: str, token: str = "", **settings: Any) -> AsyncIterator[ResolverClient]:
    """A resolver for which the forge is a Gitea that gives the recorded replies of these names, or all without a token.

    Of several with one path, the last one counts.
    """
    for name in names or [name for name in REPLIES if not REPLIES[name]["request"]["is_authenticated"]]:
        forge.pages[gitea_path(name)] = recorded_gitea(forge, name)
    async with running_resolver(**hosts(forge, token), **settings) as resolver:
        yield resolver


async def test_what_gitea_answered_is_understood(forge: Forge) -> None:
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gitea", "gitea.test/ann/notes/main")
    left_out = {"v", "quota", "is_own", "config", "resource_class", "content_provider", "notice"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "gitea",
        "spec": "gitea.test/ann/notes/main",
        "repo_url": f"{forge.url}/ann/notes",
        "ref": SHA,
        "resolved_spec": f"gitea.test/ann/notes/{SHA}",
        "ref_url": f"{forge.url}/ann/notes/src/commit/{SHA}",
        "slug": "gitea-gitea.test-ann-notes",
        "display_name": "gitea.test/ann/notes",
        "visibility": Visibility.PUBLIC,
        "immutable_spec": False,
        "ignores_case": True,
        "reached_url": None,
    }


@pytest.mark.parametrize("ref", ["HEAD", "main", "wip/of/me", "wip%2Fof%2Fme", "v1", "refs/heads/main", SHA, SHA[:7]])
async def test_every_name_of_a_commit_is_asked_for_with_one_request(forge: Forge, ref: str) -> None:
    """`v1` is an annotated tag, whose own sha is another one."""
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gitea", f"gitea.test/ann/notes/{ref}")
    assert (repo.ref, repo.immutable_spec) == (SHA, ref == SHA)
    assert len(forge.requests) == 1
    assert "stat=false" in forge.requests[0].path


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("ann/notes/nosuchref", "There is no branch, tag or commit nosuchref in ann/notes on gitea.test."),
        ("ann/empty/HEAD", "There is nothing at the default branch of ann/empty on gitea.test."),
        ("ann/hidden/HEAD", "There is no public repository ann/hidden on gitea.test."),
        ("ann/nothing/HEAD", "There is no public repository ann/nothing on gitea.test."),
        ("nobody/notes/HEAD", "There is no public repository nobody/notes on gitea.test."),
    ],
)
async def test_what_is_not_there_or_not_public_is_said(forge: Forge, spec: str, says: str) -> None:
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("gitea", f"gitea.test/{spec}")
    assert (problem.code, problem.detail) == ("ref_not_found", says)


@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (Page(422), "ref_not_found", "There is no branch, tag or commit main in ann/notes."),
        (Page(403), "ref_not_found", "There is no public repository ann/notes on gitea.test."),
        (Page(200, {}, b'{"sha": "x"}'), "ref_not_found", "main is not the name of a branch, tag or commit"),
        (Page(418), "provider_unavailable", "gitea.test answered 418."),
        (Page(500), "provider_unavailable", "gitea.test answered 500."),
        (Page(429, {"Retry-After": "90"}), "rate_limited", "gitea.test rate limit exceeded. Try again in 2 minutes."),
        (Page(429), "rate_limited", "Try again in 1 minute."),
    ],
)
async def test_what_else_it_may_answer(forge: Forge, page: Page, code: str, says: str) -> None:
    forge.pages[f"{COMMITS}main"] = page
    async with running_resolver(**hosts(forge)) as resolver:
        problem = await resolver.problem("gitea", "gitea.test/ann/notes/main")
    assert problem.code == code
    assert says in problem.detail


async def test_a_host_that_does_not_answer_is_given_up(forge: Forge) -> None:
    forge.api_fault = Fault(hold=threading.Event())
    async with running_resolver(**hosts(forge), forge_timeout_seconds=0.5) as resolver:
        problem = await resolver.problem("gitea", "gitea.test/ann/notes/main")
    assert (problem.code, problem.detail) == ("provider_unavailable", "gitea.test does not answer.")


async def test_a_token_that_is_not_known_is_no_missing_repository(forge: Forge) -> None:
    async with resolver_of(forge, "wrong token", token="wrong") as resolver:
        problem = await resolver.problem("gitea", "gitea.test/ann/notes/HEAD")
    assert problem.detail == "gitea.test does not accept the credentials of this Bindery."


async def test_a_renamed_repository_is_known_by_its_new_name_too(forge: Forge) -> None:
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gitea", "gitea.test/ann/old/HEAD")
    assert (repo.ref, repo.repo_url, repo.reached_url) == (SHA, f"{forge.url}/ann/old", f"{forge.url}/ann/new")
    async with resolver_of(forge, banned_specs={"gitea": ["gitea.test/ann/new/"]}) as resolver:
        assert (await resolver.problem("gitea", "gitea.test/ann/old/HEAD")).code == "banned"


@pytest.mark.parametrize(
    ("commit", "repository", "name", "visibility"),
    [
        ("HEAD", "repository", "notes", Visibility.PUBLIC),
        ("hidden, with a token", "hidden repository", "hidden", Visibility.PRIVATE),
    ],
)
async def test_with_a_token_only_what_is_public_is_kept(
    forge: Forge, redis: Redis, commit: str, repository: str, name: str, visibility: Visibility
) -> None:
    for reply in (commit, repository):
        forge.pages[gitea_path(reply)] = recorded_gitea(forge, reply)
    async with replicas(forge, redis, hosts(forge, "secret")) as (resolver,):
        for _ in range(2):
            repo = await resolver.repo("gitea", f"gitea.test/ann/{name}/HEAD")
            for key in await redis.keys("*flight*"):
                await redis.delete(key)
    assert (repo.ref, repo.visibility) == (SHA, visibility)
    assert {request.headers["authorization"] for request in forge.requests} == {"token secret"}
    stored = [await redis.get(key) for key in await redis.keys("*answer*")]
    assert len(stored) == (1 if visibility is Visibility.PUBLIC else 0)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gitea.test/ann", 'Spec is not of the form "host/owner/repo/ref"'),
        ("gitea.test/ann/notes", 'Did you mean "gitea.test/ann/notes/HEAD"?'),
        ("x.example/ann/notes/main", "'x.example' is no Gitea or Forgejo that is known here: gitea.test."),
        ("gitea.test/../notes/main", "'..' can't be the name of a user or repository there."),
        ("gitea.test/ann/.git/main", "'' can't be the name of a user or repository there."),
        ("gitea.test/a%2Fb/notes/main", "'a%2Fb' can't be the name of a user or repository there."),
        ("gitea.test/ann/notes/a..b", "can't be the name of a branch, tag or commit"),
    ],
)
async def test_bad_links_are_refused_unasked(forge: Forge, spec: str, says: str) -> None:
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("gitea", spec)
    assert problem.code == "bad_spec"
    assert says in problem.detail
    assert forge.requests == []


@pytest.mark.parametrize("spec", ["gitea.test/evil/x/HEAD", "Gitea.TEST/Evil/x.git/HEAD"])
async def test_a_ban_holds_for_every_link(forge: Forge, spec: str) -> None:
    by_git = f"http%3A%2F%2F127.0.0.1%3A{forge.port}%2Fevil%2Fx"
    for banned in ({"gitea": ["gitea.test/evil/"]}, {"git": [f"{by_git}/"]}):
        async with resolver_of(forge, banned_specs=banned) as resolver:
            assert (await resolver.problem("gitea", spec)).code == "banned"
            assert (await resolver.problem("git", f"{by_git}.git/main")).code == "banned"
    assert forge.requests == []


async def test_its_pages_are_read_and_their_branches_asked_for_by_git(forge: Forge) -> None:
    forge.create_repo("ann", "notes", {"a": "1"}, branch="wip/of")
    async with resolver_of(forge) as resolver:
        types = [RepositoryType.of(each) for each in (await resolver.client.get("/providers")).json()]
        reading = read_address(f"{forge.url}/ann/notes.git", types)
        assert [str(candidate.link.spec) for candidate in reading.candidates] == ["gitea/gitea.test/ann/notes/HEAD"]
        reading = read_address(f"{forge.url}/ann/notes/src/branch/wip/of/me", types)
        refs = [candidate.ref for candidate in reading.candidates]
        body = {"provider": "gitea", "repository": reading.repository, "refs": refs}
        assert (await resolver.client.post("/refs", json=body)).json() == {"existing": ["wip/of"]}
    assert refs == ["wip/of/me", "wip/of", "wip"]


def test_its_links_are_split_behind_the_repository() -> None:
    (gitea,) = Gitea.instances(settings_for(ResolverSettings))
    kind = RepositoryType.of(gitea.display_config)
    assert kind.split("codeberg.org/ann/notes/wip/me") == ("codeberg.org/ann/notes", "wip/me")
    assert kind.spec_shape == "<host>/<owner>/<name>/<ref>"
    assert kind.accepts("codeberg.org/ann/notes/main")
    assert not kind.accepts("codeberg.org/ann/notes")


def test_without_hosts_there_is_no_provider() -> None:
    assert Gitea.instances(settings_for(ResolverSettings, giteas={})) == ()
