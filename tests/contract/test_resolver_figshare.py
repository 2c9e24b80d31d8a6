"""Provider `figshare` of the resolver: its list of versions is recorded, the rest is in the form that it documents."""

from typing import Any

import pytest

from tests.support.archives import lead, recorded, reply, resolver_of_archives
from tests.support.forge import Forge

DOI = "10.6084/m9.figshare.9782777"
PAGE = "https://figshare.com/articles/binder-examples_requirements/9782777"
VERSIONS = "/figshare/articles/9782777/versions"


@pytest.fixture
def figshare(forge: Forge) -> Forge:
    """A forge with one article of three versions."""
    lead(forge, DOI, PAGE)
    for version in (1, 3):
        lead(forge, f"{DOI}.v{version}", f"{PAGE}/{version}")
        put(forge, version)
    forge.pages[VERSIONS] = recorded("api.figshare.com_v2_articles_9782777_versions").page
    return forge


def put(forge: Forge, version: int, **changes: Any) -> None:
    article = recorded("api.figshare.com_v2_articles_9782777_versions_3")
    article.body |= {"version": version} | changes
    forge.pages[f"{VERSIONS}/{version}"] = article.page


@pytest.mark.parametrize(("spec", "version", "is_immutable"), [(DOI, 3, False), (f"{DOI}.v1", 1, True)])
async def test_an_article_is_its_newest_version_or_the_one_that_the_doi_names(
    figshare: Forge, spec: str, version: int, is_immutable: bool
) -> None:
    async with resolver_of_archives(figshare) as resolver:
        repo = await resolver.repo("figshare", spec)
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "figshare",
        "spec": spec,
        "repo_url": f"https://figshare.com/articles/_/9782777/{version}",
        "ref": f"9782777.v{version}",
        "resolved_spec": f"{DOI}.v{version}",
        "ref_url": f"{figshare.url}/doi/{DOI}.v{version}",
        "slug": f"figshare-9782777.v{version}",
        "display_name": f"{DOI}.v{version}",
        "immutable_spec": is_immutable,
        "content_provider": "Figshare",
        "ignores_case": False,
    }


@pytest.mark.parametrize(
    "page",
    ["https://figshare.com/articles/dataset/2019/9782777", "https://figshare.com/articles/20190/9782777/2",
     "https://sage.figshare.com/articles/dataset/A_title/9782777/2", "http://figshare.com/articles/_/9782777/"],
)  # fmt: skip
async def test_the_page_says_which_article_it_is(figshare: Forge, page: str) -> None:
    lead(figshare, "10.25384/sage.9782777", page)
    async with resolver_of_archives(figshare) as resolver:
        repo = await resolver.repo("figshare", "10.25384/sage.9782777")
    assert (repo.ref, repo.resolved_spec) == ("9782777.v3", "10.25384/sage.9782777.v3")


@pytest.mark.parametrize(
    "page", ["https://figshare.com/collections/x/9782777", "https://notfigshare.com/articles/x/9782777"]
)
async def test_what_is_no_article_is_said(figshare: Forge, page: str) -> None:
    lead(figshare, DOI, page)
    async with resolver_of_archives(figshare) as resolver:
        problem = await resolver.problem("figshare", DOI)
    assert problem.code == "ref_not_found"
    assert "and not to a deposit on Figshare" in problem.detail


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"is_embargoed": True}, "are not public, and only public ones can be launched"),
        ({"is_confidential": True}, "are not public, and only public ones can be launched"),
        ({"files": []}, "has no files"),
        ({"files": [{"is_link_only": True}]}, "has no files"),
    ],
)
async def test_an_article_without_public_files_is_said(figshare: Forge, changes: dict[str, Any], says: str) -> None:
    put(figshare, 3, **changes)
    async with resolver_of_archives(figshare) as resolver:
        problem = await resolver.problem("figshare", DOI)
    assert problem.code == "ref_not_found"
    assert says in problem.detail


async def test_a_version_that_there_is_not_is_said(figshare: Forge) -> None:
    lead(figshare, f"{DOI}.v9", PAGE)
    async with resolver_of_archives(figshare) as resolver:
        problem = await resolver.problem("figshare", f"{DOI}.v9")
    assert problem.code == "ref_not_found"
    assert f"There is no version 9 of article {DOI}.v9 on Figshare" in problem.detail


@pytest.mark.parametrize("body", [{}, [], [1], [{"version": None}], [{}]])
async def test_a_list_of_versions_that_is_none_is_said(figshare: Forge, body: object) -> None:
    figshare.pages[VERSIONS] = reply(body)
    async with resolver_of_archives(figshare) as resolver:
        problem = await resolver.problem("figshare", DOI)
    assert problem.code == "provider_unavailable"
