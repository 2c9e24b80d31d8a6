"""Datasets in any Dataverse. Spec: `<DOI>`, of a dataset or of a file in one: its newest published version."""

import re
from typing import Any
from urllib.parse import quote

import httpx

from services.common.models import ResolvedRepo, Site
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.net.reply import Reply
from services.resolver.dois import in_link, parsed_doi
from services.resolver.forges.forge import json_of
from services.resolver.forges.strangers import StrangersHosts
from services.resolver.providers.archive import DoiArchive, not_understood, unavailable
from services.resolver.settings import ResolverSettings
from services.resolver.sites import DATAVERSE

_FILE_PAGE = "/file.xhtml"
_PAGES = frozenset({"/dataset.xhtml", "/citation", _FILE_PAGE})
_HARVARD = "dataverse.harvard.edu"
_UNSAFE = re.compile(r"[^a-z0-9]")


class Dataverse(DoiArchive):
    """Published datasets, in whichever Dataverse their DOI leads to.

    repo2docker fetches from those in the list of Dataverse's project, and always the version that is the newest then.
    Its API: https://guides.dataverse.org/en/latest/api/native-api.html#get-json-representation-of-a-dataset.
    """

    prefix = "dataverse"
    name = "Dataverse"
    label = "Dataverse DOI"
    example = "10.7910/DVN/TJCLKP"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._hosts = StrangersHosts(settings, label="dataverse")

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (DATAVERSE,)

    def has(self, page: httpx.URL) -> bool:
        """See `Archive`."""
        return page.path in _PAGES and bool(page.params.get("persistentId"))

    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """See `Archive`."""
        named = page.params["persistentId"]
        reply = None if page.path == _FILE_PAGE else await self._ask(page, "datasets", named)
        if reply is None or reply.status == 404:
            named = await self._dataset_of_file(page, named, doi)
            reply = await self._ask(page, "datasets", named)
        if reply.status != 200:
            raise unavailable(reply.status, f"dataset {doi}", page.host)
        return self._dataset(spec, doi, reply)

    async def _ask(self, page: httpx.URL, kind: str, persistent_id: str, more: str = "") -> Reply:
        path = f"/api/{kind}/:persistentId?persistentId={quote(persistent_id, safe='/:')}{more}"
        return await self._hosts.get(_root_of(page), path, name=page.host)

    async def _dataset_of_file(self, page: httpx.URL, file_id: str, doi: str) -> str:
        """Return the persistent id of the dataset that a file is in.

        Source: https://guides.dataverse.org/en/latest/api/native-api.html#get-json-representation-of-a-file.
        """
        reply = await self._ask(page, "files", file_id, "&returnDatasetVersion=true")
        if reply.status != 200:
            raise unavailable(reply.status, f"dataset or file {doi}", page.host)
        data = only_dict(json_of(reply).get("data"))
        dataset = only_dict(data.get("datasetVersion")).get("datasetPersistentId")
        if not isinstance(dataset, str):
            raise not_understood(page.host)
        return dataset

    def _dataset(self, spec: str, doi: str, reply: Reply) -> ResolvedRepo:
        """Return what the reply for a dataset says. Raise `BinderyError`."""
        url = httpx.URL(reply.url)
        data = only_dict(json_of(reply).get("data"))
        version = only_dict(data.get("latestVersion"))
        if version.get("versionState") == "DEACCESSIONED":
            raise unavailable(410, f"dataset {doi}", url.host)

        numbers = data.get("id"), version.get("versionNumber"), version.get("versionMinorNumber")
        if json_of(reply).get("status") != "OK" or not all(isinstance(number, int) for number in numbers):
            raise not_understood(url.host)
        dataset, major, minor = numbers
        resolved = self._own_doi(data, url.host)
        persistent_id = quote(f"doi:{resolved}", safe="/:")
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"{_root_of(url)}/dataset.xhtml?persistentId={persistent_id}&version={major}.{minor}",
            ref=f"{dataset}.v{major}.{minor}",
            resolved_spec=in_link(resolved),
            ref_url=f"{self.settings.doi_url}/{in_link(resolved)}",
            slug=_slug(url, resolved),
            display_name=resolved,
            content_provider="Dataverse",
        )

    def _own_doi(self, data: dict[str, Any], host: str) -> str:
        try:
            return parsed_doi(quote(f"{data.get('authority')}/{data.get('identifier')}"))
        except BinderyError:
            raise not_understood(host) from None

    async def aclose(self) -> None:
        """Close every connection."""
        await super().aclose()
        await self._hosts.aclose()


def _root_of(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _slug(url: httpx.URL, doi: str) -> str:
    """Return BinderHub's slug for Harvard's datasets; for those of other Dataverses, one that has host and whole DOI.

    Anybody can run a Dataverse whose identifiers and numbers are those of another one, and images are found by them.
    """
    if url.netloc == _HARVARD.encode() and url.scheme == "https":
        return f"dataverse-{_escaped(doi.partition('/')[2])}"
    return f"dataverse-{url.netloc.decode('ascii')}-{_escaped(doi)}"


def _escaped(text: str) -> str:
    """Return a text of letters, digits and dashes, with the bytes of all others in hex, as escapism escapes them."""
    lower = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    return _UNSAFE.sub(lambda match: "".join(f"-{byte:02x}" for byte in match[0].encode()), lower)
