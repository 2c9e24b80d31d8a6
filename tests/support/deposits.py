"""A deposit in each archive, as its API is recorded or documented, on a forge of the tests."""

from collections.abc import Callable
from urllib.parse import quote

from tests.support.archives import lead, recorded
from tests.support.forge import Forge, Page


def zenodo(forge: Forge) -> tuple[str, str, str]:
    lead(forge, "10.5281/zenodo.3242074", "https://zenodo.org/record/3242074")
    forge.pages["/zenodo/records/3242074"] = recorded("zenodo.org_api_records_3242074").page
    return "zenodo", "10.5281/zenodo.3242074", "/zenodo/records/3242074"


def figshare(forge: Forge) -> tuple[str, str, str]:
    lead(forge, "10.6084/m9.figshare.9782777.v3", "https://figshare.com/articles/x/9782777/3")
    forge.pages["/figshare/articles/9782777/versions/3"] = recorded(
        "api.figshare.com_v2_articles_9782777_versions_3"
    ).page
    return "figshare", "10.6084/m9.figshare.9782777.v3", "/figshare/articles/9782777/versions/3"


def hydroshare(forge: Forge) -> tuple[str, str, str]:
    resource = "142c59757ed54de1816777828c9716e7"
    api = f"/hydroshare/resource/{resource}/scimeta/elements"
    forge.pages[api] = recorded(f"www.hydroshare.org_hsapi_resource_{resource}_scimeta_elements").page
    return "hydroshare", resource, api


def dataverse(forge: Forge) -> tuple[str, str, str]:
    lead(forge, "10.7910/DVN/TJCLKP", f"{forge.url}/citation?persistentId=doi:10.7910/DVN/TJCLKP")
    dataset = recorded("dataverse.harvard.edu_api_datasets_persistentId")
    forge.pages["/api/datasets/:persistentId"] = dataset.page
    forge.pages["/api/files/:persistentId"] = Page(404)
    return "dataverse", "10.7910/DVN/TJCLKP", "/api/datasets/:persistentId"


def ckan(forge: Forge) -> tuple[str, str, str]:
    name = "39799a20-ecca-4f3e-b593-196e72d9a9fd"
    package = recorded("data.depositar.io_api_3_action_activity_data_show")
    forge.pages["/api/3/action/package_show"] = package.page
    return "ckan", quote(f"{forge.url}/dataset/{name}", safe=""), "/api/3/action/package_show"


def swh(forge: Forge) -> tuple[str, str, str]:
    swhid = "swh:1:rel:208f61cc7a5dbc9879ae6e5c2f95891e270f09ef"
    api = "/swh/release/208f61cc7a5dbc9879ae6e5c2f95891e270f09ef/"
    forge.pages[api] = recorded("archive.softwareheritage.org_api_1_release").page
    resolved = recorded("archive.softwareheritage.org_api_1_resolve_rev")
    forge.pages["/swh/resolve/swh:1:rev:69c0db5050f623e8895b72dfe970392b1f9a0e2e/"] = resolved.page
    return "swh", swhid, api


Deposit = Callable[[Forge], tuple[str, str, str]]
"""Puts a deposit on a forge; returns its provider, its spec and the path of the API that is asked for it."""
DEPOSITS: list[Deposit] = [zenodo, figshare, hydroshare, dataverse, ckan, swh]
BY_DOI: list[Deposit] = [zenodo, figshare, dataverse]
