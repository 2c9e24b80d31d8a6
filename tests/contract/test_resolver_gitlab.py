"""Provider `gl` of the resolver, against GitLab's API: two recorded replies, others after its documentation.

https://docs.gitlab.com/api/commits/#get-a-single-commit has a commit, https://docs.gitlab.com/api/rest/troubleshooting/
the replies to what is refused, and https://docs.gitlab.com/security/rate_limits/ those to who asks too often.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.common.models import Visibility
from services.resolver.providers.gitlab import GitLab
from services.resolver.settings import ResolverSettings
from tests.support.forge import Fault, Forge, Page
from tests.support.forge_pages import json_page
from tests.support.forge_replies import FOSS, gitlab_commit, recorded_gitlab
from tests.support.in_process_resolver import ResolverClient, replicas, running_resolver
from tests.support.settings import settings_for

SHA = "2a9d2b119a87b8411993096a22d41a3eb857e8c1"
PROJECT = "/api/v4/projects/team%2Funit%2Fnotes"


def answer(forge: Forge, ref: str, page: Page | list[Page]) -> None:
    forge.pages[f"{PROJECT}/repository/commits/{ref}"] = page


def gitlabs(forge: Forge, token: str = "") -> dict[str, Any]:
    return {"gitlabs": {"gl": {"url": forge.url, "token": token}}}


@asynccontextmanager
async def resolver_of(forge: Forge, token: str = "", **settings: Any) -> AsyncIterator[ResolverClient]:
    """A resolver for which the forge is a GitLab, and no GitHub."""
    async with running_resolver(**gitlabs(forge, token), **settings) as resolver:
        yield resolver


async def test_what_gitlab_answered_is_understood(forge: Forge) -> None:
    """The host is another one than in the recording, so that a project's new name can't be told from it."""
    forge.pages["/api/v4/projects/gitlab-org%2Fgitlab-foss/repository/commits/HEAD"] = recorded_gitlab("HEAD")
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gl", "gitlab-org%2Fgitlab-foss/HEAD")
    left_out = {"v", "quota", "is_own", "config", "resource_class", "content_provider", "notice"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "gl",
        "spec": "gitlab-org%2Fgitlab-foss/HEAD",
        "repo_url": f"{forge.url}/{FOSS}.git",
        "ref": SHA,
        "resolved_spec": f"gitlab-org%2Fgitlab-foss/{SHA}",
        "ref_url": f"{forge.url}/{FOSS}/tree/{SHA}",
        "slug": f"gl-127.0.0.1:{forge.port}-gitlab_-org-gitlab_-foss",
        "display_name": FOSS,
        "visibility": Visibility.PUBLIC,
        "immutable_spec": False,
        "ignores_case": True,
        "reached_url": None,
    }


@pytest.mark.parametrize(
    ("ref", "asked"),
    [
        ("HEAD", "HEAD"),
        ("main", "main"),
        ("wip/of/me", "wip%2Fof%2Fme"),
        ("wip%2Fof%2Fme", "wip%2Fof%2Fme"),
        ("v1.0#1", "v1.0%231"),
        ("refs/merge-requests/5/head", "refs%2Fmerge-requests%2F5%2Fhead"),
        (SHA, SHA),
        (SHA[:8], SHA[:8]),
    ],
)
async def test_every_name_of_a_commit_is_asked_for_with_one_request(forge: Forge, ref: str, asked: str) -> None:
    answer(forge, asked, gitlab_commit(forge))
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gl", f"team%2Funit%2Fnotes/{ref}")
    assert (repo.ref, repo.immutable_spec, repo.reached_url) == (SHA, ref == SHA, None)
    assert [request.path for request in forge.requests] == [f"{PROJECT}/repository/commits/{asked}?stats=false"]


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (recorded_gitlab("nosuchref"), "There is no public project {it}, or no main in it."),
        (json_page(404, {"message": "404 Project Not Found"}, {}), "There is no public project {it}."),
        (json_page(401, {"message": "401 Unauthorized"}, {}), "There is no public project team/unit/notes"),
        (json_page(403, {"message": "403 Forbidden"}, {}), "The files of {it} are for its members."),
        (Page(200, {}, b"[]"), "main is not the name of a branch, tag or commit in team/unit/notes."),
        (Page(200, {}, b'{"id": "x"}'), "main is not the name of a branch, tag or commit in team/unit/notes."),
    ],
)  # fmt: skip
async def test_what_is_not_there_or_not_public_is_said(forge: Forge, page: Page, says: str) -> None:
    answer(forge, "main", page)
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("gl", "team%2Funit%2Fnotes/main")
    assert problem.code == "ref_not_found"
    assert says.format(it=f"team/unit/notes on GitLab (127.0.0.1:{forge.port})") in problem.detail


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Fault(status=500), "provider_unavailable", "answered 500."),
        (Fault(status=418), "provider_unavailable", "answered 418."),
        (Fault(status=403, body=b"<html>"), "provider_unavailable", "answered 403."),
        (Fault(status=401), "provider_unavailable", "does not accept the credentials of this Bindery."),
        (Fault(status=429, headers={"Retry-After": "90"}), "rate_limited", "Try again in 2 minutes."),
        (Fault(status=429, headers={"RateLimit-Remaining": "0", "RateLimit-Limit": "2000", "RateLimit-Reset": "1"}),
         "rate_limited", "Try again in 1 minute."),
        (Fault(hold=threading.Event()), "provider_unavailable", "does not answer."),
    ],
)  # fmt: skip
async def test_outages_and_limits_are_said(forge: Forge, fault: Fault, code: str, says: str) -> None:
    forge.api_fault = fault
    async with resolver_of(forge, "secret", forge_timeout_seconds=fault.timeout_seconds) as resolver:
        problem = await resolver.problem("gl", "team%2Funit%2Fnotes/main")
    assert problem.code == code
    assert says in problem.detail


async def test_a_project_that_has_moved_is_known_by_its_new_name_too(forge: Forge) -> None:
    answer(forge, "main", Page(301, {"Location": f"{forge.url}/api/v4/projects/9/repository/commits/main"}))
    forge.pages["/api/v4/projects/9/repository/commits/main"] = gitlab_commit(forge, "evil/notes")
    async with resolver_of(forge) as resolver:
        repo = await resolver.repo("gl", "team%2Funit%2Fnotes/main")
        assert (repo.repo_url, repo.reached_url) == (f"{forge.url}/team/unit/notes.git", f"{forge.url}/evil/notes")
    async with resolver_of(forge, banned_specs={"gl": ["evil%2Fnotes/"]}) as resolver:
        assert (await resolver.problem("gl", "team%2Funit%2Fnotes/main")).code == "banned"


@pytest.mark.parametrize("shown", ["public", "internal", "private"])
async def test_with_a_token_the_visibility_is_asked_for_and_only_what_is_public_is_kept(
    forge: Forge, redis: Redis, shown: str
) -> None:
    answer(forge, "main", [gitlab_commit(forge), Page(304) if shown == "public" else gitlab_commit(forge)])
    forge.pages[PROJECT] = json_page(200, {"id": 1, "visibility": shown}, {})
    async with replicas(forge, redis, gitlabs(forge, "secret")) as (resolver,):
        for _ in range(2):
            repo = await resolver.repo("gl", "team%2Funit%2Fnotes/main")
            for key in await redis.keys("*flight*"):
                await redis.delete(key)
    is_public = shown == "public"
    assert (repo.ref, repo.visibility is Visibility.PUBLIC) == (SHA, is_public)
    of_commits = [request for request in forge.api_requests if "commits" in request.path]
    etag = recorded_gitlab("HEAD").headers["Etag"] if is_public else None
    assert [request.headers.get("if-none-match") for request in of_commits] == [None, etag]
    assert {request.headers["authorization"] for request in forge.api_requests} == {"Bearer secret"}
    assert all("secret" not in request.path for request in forge.api_requests)


async def test_a_project_that_became_private_is_not_taken_for_what_it_was(forge: Forge, redis: Redis) -> None:
    answer(forge, "main", gitlab_commit(forge))
    pages = [json_page(200, {"visibility": shown}, {}) for shown in ("public", "private")]
    forge.pages[PROJECT] = [*pages, Page(404)]
    async with replicas(forge, redis, gitlabs(forge, "secret")) as (resolver,):
        found = []
        for _ in range(2):
            found.append((await resolver.repo("gl", "team%2Funit%2Fnotes/main")).visibility)
            for key in await redis.keys("*flight*"):
                await redis.delete(key)
        problem = await resolver.problem("gl", "team%2Funit%2Fnotes/main")
    assert found == [Visibility.PUBLIC, Visibility.PRIVATE]
    assert all("if-none-match" not in request.headers for request in forge.api_requests)
    assert problem.code == "ref_not_found"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("team/notes/main", "Encode the slashes of the project's path, too: group%2Fproject/HEAD."),
        ("team%2Fnotes", "Spec is not of the form"),
        ("team/main", "Spec is not of the form"),
        ("team%2Fnotes/", "Spec is not of the form"),
        ("team%2F..%2Fnotes/main", "'..' can't be the name of a group or project"),
        ("team%2F%2Fnotes/main", "'' can't be the name of a group or project"),
        ("te%3Fam%2Fnotes/main", "'te?am' can't be the name of a group or project"),
        ("team%2Fnotes/a..b", "can't be the name of a branch, tag or commit"),
    ],
)
async def test_bad_links_are_refused_unasked(forge: Forge, spec: str, says: str) -> None:
    async with resolver_of(forge) as resolver:
        problem = await resolver.problem("gl", spec)
    assert problem.code == "bad_spec"
    assert says in problem.detail
    assert forge.requests == []


@pytest.mark.parametrize("spec", ["evil%2Fx%2Fnotes/main", "EVIL%2fx%2fnotes.git/main", "%65vil%2Fx%2Fnotes/main"])
async def test_a_ban_holds_for_every_link(forge: Forge, spec: str) -> None:
    by_git = f"http%3A%2F%2F127.0.0.1%3A{forge.port}%2Fevil%2Fx%2Fnotes"
    for banned in ({"gl": ["evil%2Fx%2F"]}, {"git": [f"{by_git}/"]}):
        async with resolver_of(forge, banned_specs=banned) as resolver:
            assert (await resolver.problem("gl", spec)).code == "banned"
            assert (await resolver.problem("git", f"{by_git}.git/main")).code == "banned"
    async with resolver_of(forge, allowed_specs={"gl": ["team%2F"]}) as resolver:
        assert (await resolver.problem("gl", spec)).code == "banned"
    assert forge.requests == []


async def test_branches_are_asked_for_by_git(forge: Forge) -> None:
    forge.create_repo("team/unit", "notes", {"a": "1"}, branch="wip/of")
    async with resolver_of(forge) as resolver:
        body = {"provider": "gl", "repository": "team%2Funit%2Fnotes", "refs": ["wip/of/me", "wip/of", "wip"]}
        assert (await resolver.client.post("/refs", json=body)).json() == {"existing": ["wip/of"]}
    assert forge.api_requests == []


def test_each_gitlab_of_the_settings_has_a_prefix_and_is_shown_by_its_host() -> None:
    hosts = {"gl": {"url": "https://gitlab.com/"}, "gl-lab": {"url": "https://x.example/gitlab", "token": "hunter2"}}
    public, lab = GitLab.instances(settings_for(ResolverSettings, gitlabs=hosts))
    assert (public.prefix, lab.prefix, lab.name) == ("gl", "gl-lab", "GitLab")
    assert public.credentials_id != lab.credentials_id
    assert "hunter2" not in repr(lab.settings)
    assert lab.display_config == {
        "displayName": "GitLab (x.example)",
        "id": "gl-lab",
        "spec": {"validateRegex": "[^/]+/.+"},
        "detect": {"regex": "^(https?://x.example/gitlab/)?(?<repo>.*[^/])/?"},
        "repo": {
            "label": "GitLab (x.example) repository name or URL",
            "placeholder": "example: https://x.example/gitlab/group/project or group/project",
            "urlEncode": True,
        },
        "ref": {"enabled": True, "default": "HEAD"},
    }
    assert [site.url for site in (*public.sites, *lab.sites)] == ["https://gitlab.com", "https://x.example/gitlab"]
    assert lab.repository_of("https://x.example/gitlab/team/notes.git") == "team%2Fnotes"
    assert lab.repository_of("https://x.example/team/notes") is None
    assert public.repository_of("https://gitlab.com/team") is None


async def test_the_slug_of_a_project_on_gitlab_com_is_that_of_binderhub() -> None:
    (gitlab,) = GitLab.instances(settings_for(ResolverSettings))
    assert gitlab._slug(FOSS) == "gitlab_-org-gitlab_-foss"
