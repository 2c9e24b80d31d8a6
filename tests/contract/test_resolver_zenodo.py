"""Provider `zenodo` of the resolver, against replies in the form that Zenodo documents."""

from typing import Any

import pytest

from tests.support.archives import lead, recorded, reply, resolver_of_archives
from tests.support.forge import Forge, Page

VERSION = "10.5281/zenodo.3242074"
ALL_VERSIONS = "10.5281/zenodo.3242073"
RECORD = "/zenodo/records/3242074"


@pytest.fixture
def zenodo(forge: Forge) -> Forge:
    """A forge with one record, and the DOI of all its versions."""
    lead(forge, VERSION, "https://zenodo.org/record/3242074")
    lead(forge, ALL_VERSIONS, "https://zenodo.org/record/3242073")
    forge.pages[RECORD] = recorded("zenodo.org_api_records_3242074").page
    forge.pages["/zenodo/records"] = recorded("zenodo.org_api_records_search_3242073").page
    return forge


def change(forge: Forge, **changes: Any) -> None:
    record = recorded("zenodo.org_api_records_3242074")
    record.body |= changes
    forge.pages[RECORD] = record.page


async def test_a_version_s_doi_is_that_version(zenodo: Forge) -> None:
    async with resolver_of_archives(zenodo, doi_url=f"{zenodo.url}/doi") as resolver:
        repo = await resolver.repo("zenodo", VERSION)
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "zenodo",
        "spec": VERSION,
        "repo_url": "https://zenodo.org/records/3242074",
        "ref": "3242074",
        "resolved_spec": VERSION,
        "ref_url": f"{zenodo.url}/doi/{VERSION}",
        "slug": "zenodo-3242074",
        "display_name": VERSION,
        "immutable_spec": True,
        "content_provider": "Zenodo",
        "ignores_case": False,
    }


@pytest.mark.parametrize(
    "page",
    [
        "https://zenodo.org/record/3242073",
        "http://www.zenodo.org/records/3242073",
        f"https://zenodo.org/doi/{ALL_VERSIONS}",
    ],
)
async def test_the_doi_of_all_versions_is_the_newest_and_that_is_built(zenodo: Forge, page: str) -> None:
    lead(zenodo, ALL_VERSIONS, page)
    async with resolver_of_archives(zenodo) as resolver:
        repo = await resolver.repo("zenodo", ALL_VERSIONS)
    assert (repo.ref, repo.resolved_spec, repo.slug) == ("3242074", VERSION, "zenodo-3242074")
    assert (repo.repo_url, repo.immutable_spec) == ("https://zenodo.org/records/3242074", False)
    assert "/zenodo/records?q=conceptrecid:3242073&sort=mostrecent&size=1" in [each.path for each in zenodo.requests]


async def test_a_redirect_of_the_api_is_followed_to_the_newest(zenodo: Forge) -> None:
    zenodo.pages["/zenodo/records/3242073"] = Page(301, {"Location": RECORD})
    del zenodo.pages["/zenodo/records"]
    async with resolver_of_archives(zenodo) as resolver:
        assert (await resolver.repo("zenodo", ALL_VERSIONS)).ref == "3242074"


@pytest.mark.parametrize(
    "spec",
    [f"https://doi.org/{VERSION}", f"doi:{VERSION}", f"https%3A%2F%2Fdoi.org%2F{VERSION}", f"{VERSION}/",
     "10.5281%2Fzenodo.3242074"],
)  # fmt: skip
async def test_other_ways_to_write_a_doi(zenodo: Forge, spec: str) -> None:
    async with resolver_of_archives(zenodo) as resolver:
        assert (await resolver.repo("zenodo", spec)).resolved_spec == VERSION


async def test_a_doi_of_another_publisher_stays_the_records(zenodo: Forge) -> None:
    lead(zenodo, "10.1234/own", "https://zenodo.org/records/3242074")
    change(zenodo, doi="10.1234/own")
    async with resolver_of_archives(zenodo) as resolver:
        repo = await resolver.repo("zenodo", "10.1234/own")
    assert (repo.resolved_spec, repo.slug, repo.immutable_spec) == ("10.1234/own", "zenodo-3242074", True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metadata": {"access_right": "restricted"}}, "are not public, and only public ones can be launched"),
        ({"metadata": {"access_right": "embargoed"}}, "are not public, and only public ones can be launched"),
        ({"files": []}, f"The record {VERSION} on Zenodo has no files"),
    ],
)
async def test_a_record_without_public_files_is_said(zenodo: Forge, changes: dict[str, Any], says: str) -> None:
    change(zenodo, **changes)
    async with resolver_of_archives(zenodo) as resolver:
        problem = await resolver.problem("zenodo", VERSION)
    assert problem.code == "ref_not_found"
    assert says in problem.detail


async def test_a_record_that_is_nowhere_is_said(zenodo: Forge) -> None:
    zenodo.pages["/zenodo/records"] = reply({"hits": {"hits": [], "total": 0}})
    async with resolver_of_archives(zenodo) as resolver:
        problem = await resolver.problem("zenodo", ALL_VERSIONS)
    assert problem.code == "ref_not_found"
    assert f"There is no record {ALL_VERSIONS} on Zenodo" in problem.detail


async def test_a_doi_that_leads_elsewhere_is_said_with_what_to_do(zenodo: Forge) -> None:
    lead(zenodo, "10.17632/abc.1", "https://data.mendeley.com/datasets/abc/1")
    async with resolver_of_archives(zenodo) as resolver:
        problem = await resolver.problem("zenodo", "10.17632/abc.1")
    assert problem.code == "ref_not_found"
    assert (
        "leads to data.mendeley.com, and not to a deposit on Zenodo. Launch it as doi/10.17632/abc.1" in problem.detail
    )


async def test_a_ban_by_doi_holds_for_the_version_that_it_leads_to(zenodo: Forge) -> None:
    for banned in ({"zenodo": [VERSION]}, {"doi": [VERSION]}, {"*": [VERSION]}):
        async with resolver_of_archives(zenodo, banned_specs=banned) as resolver:
            for spec in (VERSION, f"doi:{VERSION}", ALL_VERSIONS):
                assert (await resolver.problem("zenodo", spec)).code == "banned"


async def test_an_allowance_of_the_doi_holds_however_it_is_written(zenodo: Forge) -> None:
    async with resolver_of_archives(zenodo, allowed_specs={"zenodo": [VERSION]}) as resolver:
        await resolver.repo("zenodo", f"https://doi.org/{VERSION}")
        assert (await resolver.problem("zenodo", "10.5281/zenodo.1")).code == "banned"
