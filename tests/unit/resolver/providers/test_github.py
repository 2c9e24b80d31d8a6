"""Provider `gh` with pages of GitHub's API: renamed default branches, and what a commit becomes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.models.errors import BinderyError
from services.resolver.providers.github import GitHub
from services.resolver.settings import ResolverSettings
from tests.support.forge import Forge, Page
from tests.support.settings import settings_for

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER_SHA = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path) as forge:
        yield forge


@pytest.fixture
def github(forge: Forge) -> GitHub:
    return GitHub(settings_for(ResolverSettings, github_api_url=forge.api_url))


def commit(name: str, sha: str = SHA) -> Page:
    page = {"sha": sha, "html_url": f"https://github.com/{name}/commit/{sha}"}
    return Page(200, {"Etag": f'"{sha}"'}, json.dumps(page).encode())


def answer(forge: Forge, page: Page, ref: str, name: str = "org/repo") -> None:
    forge.pages[f"/api/repos/{name}/commits/{ref}"] = page


def refs_asked(forge: Forge) -> list[str]:
    return [request.path.partition("/commits/")[2] for request in forge.requests]


async def error_of(github: GitHub, spec: str) -> BinderyError:
    with pytest.raises(BinderyError) as raised:
        await github.resolve(spec)
    return raised.value


@pytest.mark.parametrize("ref", ["master", "main"])
async def test_a_missing_default_branch_means_head(forge: Forge, github: GitHub, ref: str) -> None:
    answer(forge, Page(422), ref)
    answer(forge, commit("org/repo"), "HEAD")
    found = await github.ask(f"org/repo/{ref}")
    assert found
    assert (found.repo.ref, found.repo.immutable_spec, found.validator) == (SHA, False, "")
    assert found.repo.notice is not None
    assert f"has no branch {ref}" in found.repo.notice
    assert refs_asked(forge) == [ref, "HEAD"]


async def test_an_answer_that_has_not_changed_is_none(forge: Forge, github: GitHub) -> None:
    answer(forge, commit("org/repo"), "main")
    found = await github.ask("org/repo/main")
    assert found
    answer(forge, Page(304), "main")
    assert await github.ask("org/repo/main", found.validator) is None
    assert [request.headers.get("if-none-match") for request in forge.requests] == [None, f'"{SHA}"']


async def test_another_missing_branch_is_not_replaced(forge: Forge, github: GitHub) -> None:
    answer(forge, Page(422), "develop")
    assert (await error_of(github, "org/repo/develop")).code == "ref_not_found"
    assert refs_asked(forge) == ["develop"]


async def test_the_first_error_is_raised_if_there_is_no_head_either(forge: Forge, github: GitHub) -> None:
    answer(forge, Page(422), "main")
    answer(forge, Page(409), "HEAD")
    error = await error_of(github, "org/repo/main")
    assert error.detail == "There is no branch, tag or commit main in org/repo on GitHub."


async def test_an_outage_while_head_is_looked_up_is_not_a_missing_branch(forge: Forge, github: GitHub) -> None:
    answer(forge, Page(422), "main")
    answer(forge, Page(500), "HEAD")
    assert (await error_of(github, "org/repo/main")).code == "provider_unavailable"


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (500, "provider_unavailable")])
async def test_an_outage_at_first_is_not_repeated_with_head(
    forge: Forge, github: GitHub, status: int, code: str
) -> None:
    answer(forge, Page(status), "main")
    assert (await error_of(github, "org/repo/main")).code == code
    assert refs_asked(forge) == ["main"]


async def test_only_the_full_name_of_the_commit_is_immutable(forge: Forge, github: GitHub) -> None:
    for ref in (SHA, SHA[:7], OTHER_SHA):
        answer(forge, commit("org/repo"), ref)
    assert (await github.resolve(f"org/repo/{SHA}")).immutable_spec
    assert not (await github.resolve(f"org/repo/{SHA[:7]}")).immutable_spec
    assert not (await github.resolve(f"org/repo/{OTHER_SHA}")).immutable_spec  # a branch that is named like a commit


async def test_a_renamed_repository_keeps_the_links_name_and_tells_the_new_one(forge: Forge, github: GitHub) -> None:
    answer(forge, commit("new/name"), "main", "old/name")
    repo = await github.resolve("old/name/main")
    assert (repo.repo_url, repo.slug) == ("https://github.com/old/name", "old-name")
    assert repo.reached_url == "https://github.com/new/name"


async def test_another_case_is_not_another_repository(forge: Forge, github: GitHub) -> None:
    answer(forge, commit("Org/Repo"), "main")
    repo = await github.resolve("org/repo/main")
    assert repo.reached_url is None
    assert repo.ignores_case


async def test_a_reply_that_names_no_repository_is_about_the_links_own(forge: Forge, github: GitHub) -> None:
    answer(forge, Page(200, {}, json.dumps({"sha": SHA, "html_url": "https://elsewhere"}).encode()), "main")
    assert (await github.resolve("org/repo/main")).reached_url is None


async def test_the_ref_may_hold_slashes_and_the_name_may_end_with_git(forge: Forge, github: GitHub) -> None:
    answer(forge, commit("org/repo"), "feature/x")
    await github.resolve("org/repo.git/feature%2Fx")
    assert refs_asked(forge) == ["feature/x"]


@pytest.mark.parametrize("spec", ["org", "org/repo", "or g/repo/main", "org/../main", "./repo/main", "org/.git/main"])
async def test_a_link_that_names_no_repository_is_refused_unasked(forge: Forge, github: GitHub, spec: str) -> None:
    assert (await error_of(github, spec)).code == "bad_spec"
    assert forge.requests == []


def test_a_link_is_known_by_git_as_well(github: GitHub) -> None:
    links = [str(link) for link in github.also_known_as("org/repo.git/main")]
    assert "git/https%3A%2F%2Fgithub.com%2Forg%2Frepo/main" in links
    assert "gh/org/repo/main" in links
