"""Commits that a forge finds under a repository's name although they are in none of its branches or tags."""

import json
from typing import Any

import pytest

from tests.support.api_launches import git_spec
from tests.support.forge import Forge, Page
from tests.support.in_process_resolver import running_resolver

ALLOWED = {"allowed_specs": {"gh": ["^ours/"]}}
CONFIGURED = {"spec_config": {"gh": [{"pattern": "^ours/", "config": {"resource_class": "gpu"}}]}}
QUOTA = {"high_quota_specs": {"gh": ["^ours/"]}}


class Repository:
    """`ours/notes`, with a commit before the last one, one at the end of another branch, and one of a stranger."""

    def __init__(self, forge: Forge) -> None:
        self.earlier = forge.create_repo("ours", "notes", {"a": "1"})
        self.last = forge.commit("ours", "notes", {"a": "2"})
        self.beside = forge.commit("ours", "notes", {"a": "3"}, branch="beside")
        self.strangers = forge.commit("ours", "notes", {"a": "evil"}, branch="theirs")
        forge.ref("ours", "notes", "refs/pull/1/head", self.strangers)
        forge.git("ours", "notes", "update-ref", "-d", "refs/heads/theirs")


@pytest.mark.parametrize("rules", [ALLOWED, CONFIGURED, QUOTA])
async def test_a_rule_for_a_name_does_not_hold_for_a_strangers_commit(forge: Forge, rules: dict[str, Any]) -> None:
    ours = Repository(forge)
    async with running_resolver(forge, **rules) as resolver:
        for ref in (ours.earlier, ours.last, ours.beside, ours.last[:10], "main", "HEAD"):
            repo = await resolver.repo("gh", f"ours/notes/{ref}")
            assert repo.is_own is (None if ref in {"main", "HEAD"} else True)
        for ref in (ours.strangers, ours.strangers[:12], "refs/pull/1/head"):
            problem = await resolver.problem("gh", f"ours/notes/{ref}")
            assert problem.code == "banned"
            assert f"{ours.strangers[:12]} is in no branch or tag of ours/notes" in problem.detail
            assert "Launch a branch or a tag" in problem.detail


@pytest.mark.parametrize("rules", [ALLOWED, CONFIGURED])
async def test_nor_does_it_by_the_git_url_of_the_repository(forge: Forge, rules: dict[str, Any]) -> None:
    ours = Repository(forge)
    async with running_resolver(forge, **rules) as resolver:
        assert (await resolver.repo("git", git_spec(f"{forge.url}/ours/notes", ours.earlier))).is_own is True
        problem = await resolver.problem("git", git_spec(f"{forge.url}/ours/notes", ours.strangers))
    assert problem.code == "banned"


async def test_without_such_a_rule_nothing_more_is_asked_and_a_proposal_is_marked(forge: Forge) -> None:
    ours = Repository(forge)
    async with running_resolver(forge, banned_specs={"gh": ["^evil/"]}) as resolver:
        assert (await resolver.repo("gh", f"ours/notes/{ours.strangers}")).is_own is None
        assert (await resolver.repo("gh", "ours/notes/refs/pull/1/head")).is_own is False
    assert len(forge.api_requests) == 2


async def test_with_the_setting_it_is_asked_of_each_hash_and_refuses_nothing(forge: Forge) -> None:
    ours = Repository(forge)
    async with running_resolver(forge, check_commits=True) as resolver:
        assert (await resolver.repo("gh", f"ours/notes/{ours.earlier}")).is_own is True
        assert (await resolver.repo("gh", f"ours/notes/{ours.strangers}")).is_own is False
        assert (await resolver.repo("gh", "ours/notes/main")).is_own is None


@pytest.mark.parametrize(
    "rules", [{"allowed_specs": {"*": [".*"]}}, {"spec_config": {"*": [{"pattern": ".*", "config": {"quota": 5}}]}}]
)
async def test_a_rule_for_every_name_trusts_none(forge: Forge, rules: dict[str, Any]) -> None:
    ours = Repository(forge)
    async with running_resolver(forge, **rules) as resolver:
        assert (await resolver.repo("gh", f"ours/notes/{ours.strangers}")).is_own is None


async def test_a_branch_may_be_called_like_a_hash(forge: Forge) -> None:
    Repository(forge)
    forge.commit("ours", "notes", {"a": "4"}, branch="deadbeef")
    async with running_resolver(forge, **ALLOWED) as resolver:
        assert (await resolver.repo("gh", "ours/notes/deadbeef")).is_own is None


async def test_a_forge_that_does_not_say_refuses_for_now(forge: Forge) -> None:
    ours = Repository(forge)
    forge.pages["/api/repos/ours/notes"] = Page(503)
    async with running_resolver(forge, **ALLOWED) as resolver:
        assert (await resolver.problem("gh", f"ours/notes/{ours.last}")).code == "provider_unavailable"


SHA = "ab" * 20


def page(value: object) -> Page:
    return Page(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


@pytest.mark.parametrize(("names", "is_refused"), [([{"type": "branch", "name": "main"}], False), ([], True)])
async def test_a_gitlab_is_asked_for_the_branches_and_tags_of_a_commit(
    forge: Forge, names: list[object], is_refused: bool
) -> None:
    commit = "/api/v4/projects/ours%2Fnotes/repository/commits/"
    web_url = f"{forge.url}/ours/notes/-/commit/{SHA}"
    forge.pages[commit + SHA] = page({"id": SHA, "web_url": web_url})
    forge.pages[f"{commit}{SHA}/refs"] = page(names)
    rules: dict[str, Any] = {"allowed_specs": {"gl": ["^ours%2F"]}, "gitlabs": {"gl": {"url": forge.url}}}
    async with running_resolver(**rules) as resolver:
        reply = await resolver.post("gl", f"ours%2Fnotes/{SHA}")
    assert reply.status_code == (403 if is_refused else 200), reply.text


@pytest.mark.parametrize(("missing", "is_refused"), [(0, False), (2, True)])
async def test_a_gitea_compares_with_the_default_branch(forge: Forge, missing: int, is_refused: bool) -> None:
    host = forge.url.removeprefix("http://")
    path = "/api/v1/repos/ours/notes"
    forge.pages[f"{path}/git/commits/{SHA}"] = page({"sha": SHA, "html_url": f"{forge.url}/ours/notes/commit/{SHA}"})
    forge.pages[path] = page({"default_branch": "trunk"})
    forge.pages[f"{path}/compare/trunk...{SHA}"] = page({"total_commits": missing, "commits": []})
    rules: dict[str, Any] = {"allowed_specs": {"gitea": [f"^{host}/ours/"]}, "giteas": {host: {"url": forge.url}}}
    async with running_resolver(**rules) as resolver:
        reply = await resolver.post("gitea", f"{host}/ours/notes/{SHA}")
    assert reply.status_code == (403 if is_refused else 200), reply.text


@pytest.mark.parametrize(("missing", "is_refused"), [([], False), ([{"hash": SHA}], True)])
async def test_bitbucket_is_asked_for_commits_that_the_main_branch_lacks(
    forge: Forge, missing: list[object], is_refused: bool
) -> None:
    path = "/api/2.0/repositories/ours/notes"
    forge.pages[f"{path}/commit/{SHA}"] = page({"hash": SHA, "repository": {"full_name": "ours/notes"}})
    forge.pages[path] = page({"mainbranch": {"name": "trunk"}})
    forge.pages[f"{path}/commits"] = page({"values": missing})
    urls: dict[str, Any] = {"bitbucket_url": forge.url, "bitbucket_api_url": f"{forge.url}/api/2.0"}
    async with running_resolver(allowed_specs={"bb": ["^ours/"]}, **urls) as resolver:
        reply = await resolver.post("bb", f"ours/notes/{SHA}")
    assert reply.status_code == (403 if is_refused else 200), reply.text
