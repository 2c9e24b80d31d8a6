"""Provider `doi` of the resolver: DataCite's replies in the form that it documents, and each archive's own."""

import pytest

from tests.support.archives import lead, recorded, register, reply, resolver_of_archives
from tests.support.forge import Forge, Page

ZENODO = "10.5281/zenodo.3242074"
FIGSHARE = "10.6084/m9.figshare.9782777.v3"
DATAVERSE = "10.7910/DVN/TJCLKP"
RESOURCE = "142c59757ed54de1816777828c9716e7"
HYDROSHARE = f"10.4211/hs.{RESOURCE}"
CKAN = "10.5519/sea-turtles"
DATASET = "39799a20-ecca-4f3e-b593-196e72d9a9fd"


@pytest.fixture
def archives(forge: Forge) -> Forge:
    """A forge with a deposit in each archive; that on HydroShare has its DOI from another agency than DataCite."""
    register(forge, ZENODO, "https://zenodo.org/record/3242074")
    forge.pages["/zenodo/records/3242074"] = recorded("zenodo.org_api_records_3242074").page
    register(forge, FIGSHARE, "https://figshare.com/articles/x/9782777/3")
    version = recorded("api.figshare.com_v2_articles_9782777_versions_3")
    forge.pages["/figshare/articles/9782777/versions/3"] = version.page
    register(forge, DATAVERSE, f"{forge.url}/citation?persistentId=doi:{DATAVERSE}")
    dataset = recorded("dataverse.harvard.edu_api_datasets_persistentId")
    forge.pages["/api/datasets/:persistentId"] = dataset.page
    lead(forge, HYDROSHARE, f"http://www.hydroshare.org/resource/{RESOURCE}")
    elements = recorded(f"www.hydroshare.org_hsapi_resource_{RESOURCE}_scimeta_elements")
    forge.pages[f"/hydroshare/resource/{RESOURCE}/scimeta/elements"] = elements.page
    register(forge, CKAN, f"{forge.url}/dataset/{DATASET}")
    package = recorded("data.depositar.io_api_3_action_activity_data_show")
    forge.pages["/api/3/action/package_show"] = package.page
    return forge


@pytest.mark.parametrize(
    ("doi", "provider", "own"),
    [(ZENODO, "zenodo", ZENODO), (FIGSHARE, "figshare", FIGSHARE), (DATAVERSE, "dataverse", DATAVERSE),
     (HYDROSHARE, "hydroshare", RESOURCE), (CKAN, "ckan", "")],
)  # fmt: skip
async def test_a_doi_is_what_its_archive_s_provider_says(archives: Forge, doi: str, provider: str, own: str) -> None:
    if provider == "ckan":
        own = f"{archives.url}/dataset/{DATASET}".replace(":", "%3A").replace("/", "%2F")
    for spec in (ZENODO, FIGSHARE, DATAVERSE):
        lead(archives, spec, recorded_url(archives, spec))
    async with resolver_of_archives(archives) as resolver:
        by_doi = await resolver.repo("doi", doi)
        by_archive = await resolver.repo(provider, own)
        again = await resolver.repo("doi", by_doi.resolved_spec)
    named = {"provider", "spec", "resolved_spec"}
    assert by_doi.model_dump(exclude=named) == by_archive.model_dump(exclude=named) == again.model_dump(exclude=named)
    assert (by_doi.provider, by_doi.spec, by_doi.resolved_spec) == ("doi", doi, doi)


def recorded_url(forge: Forge, doi: str) -> str:
    return {
        ZENODO: "https://zenodo.org/record/3242074",
        FIGSHARE: "https://figshare.com/articles/x/9782777/3",
        DATAVERSE: f"{forge.url}/citation?persistentId=doi:{DATAVERSE}",
    }[doi]


async def test_an_archive_that_no_provider_is_for_is_refused_with_a_sentence(archives: Forge) -> None:
    register(archives, "10.5061/dryad.x", "https://datadryad.org/dataset/doi:10.5061/dryad.x", publisher="Dryad")
    register(archives, "10.17605/osf.io/x", "https://osf.io/x", publisher="a\nb")
    lead(archives, "10.1000/paper", "https://publisher.example/paper")
    async with resolver_of_archives(archives) as resolver:
        dryad = await resolver.problem("doi", "10.5061/dryad.x")
        osf = await resolver.problem("doi", "10.17605/osf.io/x")
        paper = await resolver.problem("doi", "10.1000/paper")
    assert {dryad.code, osf.code, paper.code} == {"ref_not_found"}
    assert "leads to datadryad.org (Dryad), from which nothing can be launched here" in dryad.detail
    assert "The archives are Zenodo, Figshare, Hydroshare, Dataverse, CKAN." in dryad.detail
    assert "leads to osf.io, from which" in osf.detail
    assert "leads to publisher.example, from which" in paper.detail


async def test_an_archive_that_the_operator_left_out_is_no_archive_by_doi_either(archives: Forge) -> None:
    async with resolver_of_archives(archives, providers="doi,figshare") as resolver:
        problem = await resolver.problem("doi", ZENODO)
        await resolver.repo("doi", FIGSHARE)
    assert "leads to zenodo.org" in problem.detail
    assert "The archives are Figshare." in problem.detail


@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (Page(404), "ref_not_found", "There is no DOI 10.5281/zenodo.3242074"),
        (Page(429), "rate_limited", "DataCite rate limit exceeded"),
        (Page(403), "provider_unavailable", "DataCite answered 403."),
        (Page(502), "provider_unavailable", "DataCite answered 502."),
        (Page(200, {}, b"<html>"), "ref_not_found", "leads to no page"),
        (reply({"data": []}), "ref_not_found", "leads to no page"),
        (reply({"data": {"attributes": {"url": None}}}), "ref_not_found", "leads to no page"),
        (reply({"data": {"attributes": {"url": "javascript:x"}}}), "ref_not_found", "leads to no page"),
    ],
)
async def test_what_else_datacite_may_answer(archives: Forge, page: Page, code: str, says: str) -> None:
    archives.pages[f"/datacite/dois/{ZENODO}"] = page
    async with resolver_of_archives(archives) as resolver:
        problem = await resolver.problem("doi", ZENODO)
    assert problem.code == code
    assert says in problem.detail


@pytest.mark.parametrize("spec", ["x", "10.5281/", "10.5281/a%00b"])
async def test_what_is_no_doi_is_refused_unasked(archives: Forge, spec: str) -> None:
    async with resolver_of_archives(archives) as resolver:
        assert (await resolver.problem("doi", spec)).code == "bad_spec"
    assert archives.requests == []


async def test_rules_about_an_archive_hold_by_doi_too(archives: Forge) -> None:
    by_url = f"{archives.url}/dataset".replace(":", "%3A").replace("/", "%2F")
    for banned in ({"zenodo": [ZENODO]}, {"hydroshare": [RESOURCE]}, {"ckan": [by_url]}, {"doi": ["10."]}):
        doi = {"zenodo": ZENODO, "hydroshare": HYDROSHARE, "ckan": CKAN, "doi": ZENODO}[next(iter(banned))]
        async with resolver_of_archives(archives, banned_specs=banned) as resolver:
            assert (await resolver.problem("doi", doi)).code == "banned", banned
    async with resolver_of_archives(archives, allowed_specs={"zenodo": ["10.5281/zenodo.1$"]}) as resolver:
        problem = await resolver.problem("doi", ZENODO)
        await resolver.repo("doi", FIGSHARE)
    assert problem.code == "banned"
    assert f"Sorry, doi/{ZENODO} is not allowed to launch here." in problem.detail
