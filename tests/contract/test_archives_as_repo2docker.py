"""What our resolver names and our builds fetch, held against repo2docker's own content providers.

The docker and kubernetes executors leave the fetch to those: each has to recognise the `repo_url` of its archive, as
the version that was resolved. And a dataset means the same on all executors: the same files in the same places.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from services.builder.executors.process.session.archives import attempts
from services.common.models import ResolvedRepo
from tests.contract.test_archive_fetches import REVISION, Fetching
from tests.support.archive_datasets import (
    CHANGED_AT,
    DIRECTORY,
    PACKAGE_CHANGED_AT,
    RESOURCE,
    serve_ckan,
    serve_dataverse,
    serve_figshare,
    serve_hydroshare,
    serve_software_heritage,
    serve_zenodo,
    tarred,
    tree_of,
    zipped,
)
from tests.support.archives import lead, recorded, reply, resolver_of_archives
from tests.support.forge import Forge
from tests.support.repo2docker_fetches import Repo2docker

FILES = {"index.ipynb": b"{}", "data/Größe 1.csv": b"a,b\n1,2\n", "postBuild": b"#!/bin/sh\n"}


@pytest.fixture(scope="module")
def repo2docker(tmp_path_factory: pytest.TempPathFactory) -> Repo2docker:
    return Repo2docker.install(tmp_path_factory.mktemp("repo2docker"))


class Comparison:
    """One dataset, resolved by us, and fetched by repo2docker and by us."""

    def __init__(self, forge: Forge, repo2docker: Repo2docker, folder: Path) -> None:
        self.forge = forge
        self.repo2docker = repo2docker
        self.folder = folder

    async def resolve(self, prefix: str, spec: str) -> ResolvedRepo:
        async with resolver_of_archives(self.forge) as resolver:
            return await resolver.repo(prefix, spec)

    async def fetch_both(self, repo: ResolvedRepo, places: dict[str, str]) -> tuple[Any, dict[str, bytes | str]]:
        """Return what `detect` found, and the files, which both have in the same places."""
        theirs = self.folder / "theirs"
        theirs.mkdir()
        here = {prefix: f"{self.forge.url}{place}" for prefix, place in places.items()}
        found = self.repo2docker.fetch(repo.content_provider, repo.repo_url, repo.ref, places=here, folder=theirs)
        fetching = Fetching(self.forge, self.folder)
        ours = await fetching.fetch(repo.content_provider, repo.repo_url, repo.ref)
        assert ours == tree_of(theirs)
        return found, ours


@pytest.fixture
def comparison(forge: Forge, repo2docker: Repo2docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.setattr(attempts, "PAUSES_SECONDS", (0.0, 0.0))
    return Comparison(forge, repo2docker, tmp_path)


ZENODO_FILES = {
    "several": FILES | {"x.zip": zipped({"a": b"a"})},
    "one ZIP with a folder": {"x.zip": zipped({f"repo-1.0/{name}": content for name, content in FILES.items()})},
    "one ZIP with several entries": {"x.zip": zipped(FILES)},
    "one ZIP by another name": {"book.xlsx": zipped({"sheet/a.xml": b"a"})},
    "one file": {"a.csv": b"1"},
}


@pytest.mark.parametrize("case", ZENODO_FILES)
async def test_a_record_of_zenodo(comparison: Comparison, forge: Forge, case: str) -> None:
    lead(forge, "10.5281/zenodo.7", "https://zenodo.org/records/7")
    serve_zenodo(forge, "7", ZENODO_FILES[case])
    repo = await comparison.resolve("zenodo", "10.5281/zenodo.7")
    found, files = await comparison.fetch_both(repo, {"https://zenodo.org/api": "/zenodo"})
    assert found["record"] == repo.ref == "7"
    assert files


@pytest.mark.parametrize("name", ["repo.zip", "book.xlsx", "a.csv"])
async def test_an_article_of_figshare(comparison: Comparison, forge: Forge, name: str) -> None:
    content = b"1" if name == "a.csv" else zipped({f"repo/{path}": file for path, file in FILES.items()})
    lead(forge, "10.6084/m9.figshare.9782777.v3", "https://figshare.com/articles/dataset/x/9782777/3")
    serve_figshare(forge, "9782777", "3", {name: content}, links={"elsewhere.csv": b"1"})
    repo = await comparison.resolve("figshare", "10.6084/m9.figshare.9782777.v3")
    found, files = await comparison.fetch_both(repo, {"https://api.figshare.com/v2": "/figshare"})
    assert f"{found['article']}.v{found['version']}" == repo.ref == "9782777.v3"
    assert set(files) == (set(FILES) if name == "repo.zip" else {name})


@pytest.mark.parametrize("has_folders", [True, False])
async def test_a_dataset_of_a_dataverse(comparison: Comparison, forge: Forge, has_folders: bool) -> None:
    dataset = recorded("dataverse.harvard.edu_api_datasets_persistentId")
    latest = dataset.body["data"]["latestVersion"]
    version = f"{latest['versionNumber']}.{latest['versionMinorNumber']}"
    files = {"data/table.tab": b"deposited\n", "data/x.zip": zipped({"a": b"a"})}
    if not has_folders:
        files = {"table.tab": b"deposited\n", "b.csv": b"1"}
    table = next(iter(files))
    listing = serve_dataverse(forge, version, files, originals={table: "table.dta"})
    latest["files"] = listing.body["data"]["files"]
    forge.pages["/api/datasets/:persistentId"] = dataset.page
    forge.pages["/installations"] = reply({"installations": [{"hostname": forge.url.partition("://")[2]}]})
    lead(forge, "10.7910/DVN/TJCLKP", f"{forge.url}/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP")

    repo = await comparison.resolve("dataverse", "10.7910/DVN/TJCLKP")
    found, fetched = await comparison.fetch_both(repo, {"installations": "/installations"})
    assert found == repo.repo_url
    assert "data/table.dta" in fetched or not has_folders


async def test_a_resource_of_hydroshare(comparison: Comparison, forge: Forge) -> None:
    serve_hydroshare(forge, FILES)
    repo = await comparison.resolve("hydroshare", RESOURCE)
    places = {
        "https://www.hydroshare.org/hsapi": "/hydroshare",
        "https://www.hydroshare.org/django_s3": "/django_s3",
        "https://s3.hydroshare.org": "/s3",
    }
    found, files = await comparison.fetch_both(repo, places)
    assert f"{found['resource']}.v{found['version']}" == repo.ref == f"{RESOURCE}.v{CHANGED_AT}"
    assert files == FILES


@pytest.mark.parametrize("activity", ["", "0f8b1a7e-1111"])
async def test_a_dataset_of_a_ckan(comparison: Comparison, forge: Forge, activity: str) -> None:
    serve_ckan(forge, {"a.csv": b"1", "x.zip": zipped({"a": b"a"})})
    query = f"?activity_id={activity}" if activity else ""
    repo = await comparison.resolve("ckan", quote(f"{forge.url}/dataset/turtles{query}", safe=""))
    found, files = await comparison.fetch_both(repo, {})
    assert f"{found['dataset_id']}.v{found['version']}" == repo.ref == f"turtles.v{PACKAGE_CHANGED_AT}"
    assert (found["activity_id"] or "") == activity
    assert set(files) == {"a.csv", "x.zip"}


@pytest.mark.parametrize("kind", ["dir", "rev"])
async def test_a_directory_of_software_heritage(comparison: Comparison, forge: Forge, kind: str) -> None:
    serve_software_heritage(forge, tarred(FILES, top=DIRECTORY))
    digest = DIRECTORY if kind == "dir" else REVISION
    swhid = f"swh:1:{kind}:{digest}"
    forge.pages[f"/swh/resolve/{swhid}/"] = recorded("archive.softwareheritage.org_api_1_resolve_rev").page
    repo = await comparison.resolve("swh", swhid)
    found, files = await comparison.fetch_both(repo, {"https://archive.softwareheritage.org/api/1": "/swh"})
    assert (found["swhid"], found["swhid_obj"]["hash"]) == (repo.repo_url, repo.ref)
    assert files == FILES
