"""Provider `gh` with an API that answers from a table: renamed default branches, and what a commit becomes."""

from typing import Any

import pytest

from services.common.models.errors import BinderyError
from services.resolver.github_api import Commit
from services.resolver.providers.github import GitHub
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER_SHA = "89abcdef0123456789abcdef0123456789abcdef"
MISSING = BinderyError("ref_not_found", "There is no such ref.")


class ApiTable:
    """Answers with the commit, or raises the error, that the table has for a ref."""

    def __init__(self, **answers: Commit | BinderyError) -> None:
        self.answers = answers
        self.requests: list[str] = []

    async def commit(self, user: str, repo: str, ref: str) -> Commit:
        self.requests.append(f"{user}/{repo}/{ref}")
        answer = self.answers.get(ref, MISSING)
        if isinstance(answer, BinderyError):
            raise answer
        return answer


def provider_of(monkeypatch: pytest.MonkeyPatch, api: Any) -> GitHub:
    provider = GitHub(settings_for(ResolverSettings))
    monkeypatch.setattr(provider, "api", api)
    return provider


@pytest.mark.parametrize("ref", ["master", "main"])
async def test_a_missing_default_branch_means_head(monkeypatch: pytest.MonkeyPatch, ref: str) -> None:
    api = ApiTable(HEAD=Commit(SHA, "org/repo"))
    repo = await provider_of(monkeypatch, api).resolve(f"org/repo/{ref}")
    assert (repo.ref, repo.immutable_spec) == (SHA, False)
    assert repo.notice is not None
    assert f"has no branch {ref}" in repo.notice
    assert api.requests == [f"org/repo/{ref}", "org/repo/HEAD"]


async def test_another_missing_branch_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiTable(HEAD=Commit(SHA, "org/repo"))
    with pytest.raises(BinderyError) as raised:
        await provider_of(monkeypatch, api).resolve("org/repo/develop")
    assert raised.value is MISSING
    assert api.requests == ["org/repo/develop"]


async def test_the_first_error_is_raised_if_there_is_no_head_either(monkeypatch: pytest.MonkeyPatch) -> None:
    of_main = BinderyError("ref_not_found", "There is no main.")
    with pytest.raises(BinderyError, match=r"There is no main\."):
        await provider_of(monkeypatch, ApiTable(main=of_main)).resolve("org/repo/main")


async def test_an_outage_while_head_is_looked_up_is_not_a_missing_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = BinderyError("provider_unavailable", "GitHub does not answer.")
    with pytest.raises(BinderyError) as raised:
        await provider_of(monkeypatch, ApiTable(HEAD=outage)).resolve("org/repo/main")
    assert raised.value is outage


async def test_an_outage_at_first_is_not_repeated_with_head(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiTable(main=BinderyError("rate_limited", "Wait."), HEAD=Commit(SHA, "org/repo"))
    with pytest.raises(BinderyError, match=r"Wait\."):
        await provider_of(monkeypatch, api).resolve("org/repo/main")
    assert api.requests == ["org/repo/main"]


async def test_only_the_full_name_of_the_commit_is_immutable(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Commit(SHA, "org/repo")
    provider = provider_of(monkeypatch, ApiTable(**{SHA: commit, SHA[:7]: commit, OTHER_SHA: commit}))
    assert (await provider.resolve(f"org/repo/{SHA}")).immutable_spec
    assert not (await provider.resolve(f"org/repo/{SHA[:7]}")).immutable_spec
    assert not (await provider.resolve(f"org/repo/{OTHER_SHA}")).immutable_spec  # a branch that is named like a commit


async def test_a_renamed_repository_keeps_the_links_name_and_tells_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    repo = await provider_of(monkeypatch, ApiTable(main=Commit(SHA, "new/name"))).resolve("old/name/main")
    assert (repo.repo_url, repo.slug) == ("https://github.com/old/name", "old-name")
    assert repo.reached_url == "https://github.com/new/name"


async def test_another_case_is_not_another_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    repo = await provider_of(monkeypatch, ApiTable(main=Commit(SHA, "Org/Repo"))).resolve("org/repo/main")
    assert repo.reached_url is None
    assert repo.ignores_case


async def test_the_ref_may_hold_slashes_and_the_name_may_end_with_git(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiTable(**{"feature/x": Commit(SHA, "org/repo")})
    await provider_of(monkeypatch, api).resolve("org/repo.git/feature%2Fx")
    assert api.requests == ["org/repo/feature/x"]


@pytest.mark.parametrize("spec", ["org", "org/repo", "or g/repo/main", "org/../main", "./repo/main", "org/.git/main"])
async def test_a_link_that_names_no_repository_is_refused_unasked(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    api = ApiTable()
    with pytest.raises(BinderyError) as raised:
        await provider_of(monkeypatch, api).resolve(spec)
    assert raised.value.code == "bad_spec"
    assert api.requests == []


def test_a_link_is_known_by_git_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [str(link) for link in provider_of(monkeypatch, ApiTable()).also_known_as("org/repo.git/main")]
    assert "git/https%3A%2F%2Fgithub.com%2Forg%2Frepo/main" in links
    assert "gh/org/repo/main" in links
