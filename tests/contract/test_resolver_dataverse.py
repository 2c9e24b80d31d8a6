"""Provider `dataverse` of the resolver: a dataset's reply is recorded, a file's has the form that is documented."""

from typing import Any

import httpx
import pytest
from multidict import CIMultiDict

from services.common.net.reply import Reply
from services.resolver.forges.strangers import StrangersHosts
from services.resolver.providers.dataverse import Dataverse
from services.resolver.settings import ResolverSettings
from tests.support.archives import lead, recorded, reply, resolver_of_archives
from tests.support.forge import Forge, Page
from tests.support.settings import settings_for

DOI = "10.7910/DVN/TJCLKP"
OF_A_FILE = f"{DOI}/ABCDEF"
DATASETS = "/api/datasets/:persistentId"
FILES = "/api/files/:persistentId"
RECORDING = "dataverse.harvard.edu_api_datasets_persistentId"


@pytest.fixture
def dataverse(forge: Forge) -> Forge:
    """A Dataverse with one dataset."""
    lead(forge, DOI, f"{forge.url}/citation?persistentId=doi:{DOI}")
    forge.pages[DATASETS] = recorded(RECORDING).page
    forge.pages[FILES] = recorded("dataverse.harvard.edu_api_files_persistentId").page
    return forge


def change(forge: Forge, data: dict[str, Any], **of_version: Any) -> None:
    dataset = recorded(RECORDING)
    dataset.body["data"] |= data
    dataset.body["data"]["latestVersion"] |= of_version
    forge.pages[DATASETS] = dataset.page


def asked(forge: Forge) -> list[str]:
    return [request.path for request in forge.requests if "/api/handles" not in request.path]


async def test_a_dataset_is_its_newest_version(dataverse: Forge) -> None:
    async with resolver_of_archives(dataverse) as resolver:
        repo = await resolver.repo("dataverse", DOI)
    host = dataverse.url.removeprefix("http://")
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "dataverse",
        "spec": DOI,
        "repo_url": f"{dataverse.url}/dataset.xhtml?persistentId=doi:{DOI}&version=4.0",
        "ref": "3035124.v4.0",
        "resolved_spec": DOI,
        "ref_url": f"{dataverse.url}/doi/{DOI}",
        "slug": f"dataverse-{host}-10-2e7910-2fdvn-2ftjclkp",
        "display_name": DOI,
        "immutable_spec": False,
        "content_provider": "Dataverse",
        "ignores_case": False,
    }
    assert asked(dataverse) == [f"{DATASETS}?persistentId=doi:{DOI}"]


@pytest.mark.parametrize(
    ("host", "slug"),
    [
        ("https://dataverse.harvard.edu", "dataverse-dvn-2ftjclkp"),
        ("https://dataverse.harvard.edu:8443", "dataverse-dataverse.harvard.edu:8443-10-2e7910-2fdvn-2ftjclkp"),
        ("http://dataverse.harvard.edu", "dataverse-dataverse.harvard.edu-10-2e7910-2fdvn-2ftjclkp"),
        ("https://dataverse.evil.example", "dataverse-dataverse.evil.example-10-2e7910-2fdvn-2ftjclkp"),
    ],
)
async def test_no_other_dataverse_gets_the_image_name_of_harvard_s(
    monkeypatch: pytest.MonkeyPatch, host: str, slug: str
) -> None:
    async def harvard_s_reply(_hosts: StrangersHosts, url: str, path: str, *, name: str) -> Reply:
        assert name in url
        body = recorded(RECORDING).page.body
        assert isinstance(body, bytes)
        return Reply(status=200, headers=CIMultiDict(), body=body, url=f"{url}{path}")

    monkeypatch.setattr(StrangersHosts, "get", harvard_s_reply)
    provider = Dataverse(settings_for(ResolverSettings))
    repo = await provider.at(DOI, DOI, httpx.URL(f"{host}/citation?persistentId=doi:{DOI}"))
    assert repo.slug == slug


async def test_the_doi_of_a_file_is_that_of_its_dataset(dataverse: Forge) -> None:
    for page in ("file.xhtml", "citation"):
        lead(dataverse, OF_A_FILE, f"{dataverse.url}/{page}?persistentId=doi:{OF_A_FILE}")
        dataverse.pages[DATASETS] = [recorded(RECORDING).page]
        if page == "citation":  # whose it is, the page does not say: it is taken for a dataset's first
            dataverse.pages[DATASETS] = [Page(404), recorded(RECORDING).page]
        dataverse.requests.clear()
        async with resolver_of_archives(dataverse) as resolver:
            repo = await resolver.repo("dataverse", OF_A_FILE)
        assert (repo.resolved_spec, repo.ref) == (DOI, "3035124.v4.0")
        assert asked(dataverse)[-2:] == [
            f"{FILES}?persistentId=doi:{OF_A_FILE}&returnDatasetVersion=true",
            f"{DATASETS}?persistentId=doi:{DOI}",
        ]


async def test_a_redirect_says_where_the_dataset_is_now(dataverse: Forge) -> None:
    lead(dataverse, DOI, f"{dataverse.url}/dataset.xhtml?persistentId=doi:{DOI}")
    moved = f"http://localhost:{dataverse.port}{DATASETS}"
    dataverse.pages[DATASETS] = [Page(302, {"Location": moved}), recorded(RECORDING).page]
    async with resolver_of_archives(dataverse) as resolver:
        repo = await resolver.repo("dataverse", DOI)
    assert repo.repo_url.startswith(f"http://localhost:{dataverse.port}/dataset.xhtml?")


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("http://10.0.0.1/citation?persistentId=doi:x", "address_not_allowed"),
        ("http://169.254.169.254/dataset.xhtml?persistentId=doi:x", "address_not_allowed"),
        ("http://127.0.0.1:1/citation?persistentId=doi:x", "provider_unavailable"),
        ("https://dataverse.example/citation", "ref_not_found"),
        ("https://dataverse.example/other?persistentId=doi:x", "ref_not_found"),
    ],
)
async def test_a_doi_leads_into_no_private_network(dataverse: Forge, page: str, code: str) -> None:
    lead(dataverse, DOI, page)
    async with resolver_of_archives(dataverse) as resolver:
        assert (await resolver.problem("dataverse", DOI)).code == code
    assert asked(dataverse) == []


@pytest.mark.parametrize(
    ("data", "of_version", "code", "says"),
    [
        ({}, {"versionState": "DEACCESSIONED"}, "ref_not_found", "has withdrawn dataset"),
        ({}, {"versionNumber": None}, "provider_unavailable", "in a form that is not understood"),
        ({"id": "1"}, {}, "provider_unavailable", "in a form that is not understood"),
        ({"authority": "x"}, {}, "provider_unavailable", "in a form that is not understood"),
        ({"identifier": "a/../b"}, {}, "provider_unavailable", "in a form that is not understood"),
    ],
)
async def test_what_else_a_dataset_may_be(
    dataverse: Forge, data: dict[str, Any], of_version: dict[str, Any], code: str, says: str
) -> None:
    change(dataverse, data, **of_version)
    async with resolver_of_archives(dataverse) as resolver:
        problem = await resolver.problem("dataverse", DOI)
    assert problem.code == code
    assert says in problem.detail


@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (Page(404), "ref_not_found", "There is no dataset or file"),
        (Page(403), "ref_not_found", "are not public, and only public ones can be launched"),
        (reply({"status": "OK", "data": {}}), "provider_unavailable", "in a form that is not understood"),
    ],
)
async def test_what_else_a_file_may_be(dataverse: Forge, page: Page, code: str, says: str) -> None:
    lead(dataverse, OF_A_FILE, f"{dataverse.url}/file.xhtml?persistentId=doi:{OF_A_FILE}")
    dataverse.pages[FILES] = page
    async with resolver_of_archives(dataverse) as resolver:
        problem = await resolver.problem("dataverse", OF_A_FILE)
    assert problem.code == code
    assert says in problem.detail
