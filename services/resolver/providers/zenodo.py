"""Records on Zenodo. Spec: `<DOI>`, of one version, or of all of them: then the newest."""

import re
from typing import Any

import httpx

from services.common.models import ResolvedRepo, Site
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.net.reply import Reply
from services.resolver.dois import in_link, parsed_doi
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.providers.archive import DoiArchive, not_public, not_understood, unavailable
from services.resolver.settings import ResolverSettings
from services.resolver.sites import ZENODO

_RECORD = re.compile(r"/(?:records?/|doi/10\.[0-9.]+/zenodo\.)([0-9]+)(?:/.*)?")


class Zenodo(DoiArchive):
    """Public records of Zenodo. Its API: https://developers.zenodo.org/#records."""

    prefix = "zenodo"
    name = "Zenodo"
    label = "Zenodo DOI"
    example = "10.5281/zenodo.3242074"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        host = ForgeHost(name=self.name, label="zenodo", url=settings.zenodo_api_url)
        self._api = Forge(host, settings, headers={"Accept": "application/json"})

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (ZENODO.updated(url=self.settings.zenodo_url),)

    def has(self, page: httpx.URL) -> bool:
        """See `Archive`."""
        host = httpx.URL(self.settings.zenodo_url).host
        return page.host in {host, f"www.{host}"} and _RECORD.fullmatch(page.path) is not None

    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """See `Archive`."""
        match = _RECORD.fullmatch(page.path)
        record = await self._record(match[1] if match else "", doi)
        number = record.get("id")
        if not isinstance(number, int):
            raise not_understood(self.name)

        access = only_dict(record.get("metadata")).get("access_right", "open")
        if access != "open":
            raise not_public(f"record {doi}", self.name)
        if record.get("files") == []:
            raise BinderyError(
                "ref_not_found", f"The record {doi} on Zenodo has no files, so that nothing can be built."
            )

        resolved = _own_doi(record) or doi
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"{self.settings.zenodo_url}/records/{number}",
            ref=str(number),
            resolved_spec=in_link(resolved),
            ref_url=f"{self.settings.doi_url}/{in_link(resolved)}",
            slug=f"zenodo-{number}",
            display_name=resolved,
            immutable_spec=doi.lower() == resolved.lower(),
            content_provider="Zenodo",
        )

    async def _record(self, number: str, doi: str) -> dict[str, Any]:
        """Return a record; of a number that is not a version's but that of all versions, the newest.

        Zenodo's API does not know such a number by itself (https://github.com/zenodo/zenodo/issues/2499), but its
        search does, which finds newest versions only.
        """
        reply = await self._api.get(f"/records/{number}")
        if reply.status != 404:
            return self._checked(reply, doi)

        found = await self._api.get(f"/records?q=conceptrecid:{number}&sort=mostrecent&size=1")
        hits = only_dict(self._checked(found, doi).get("hits")).get("hits")
        if not isinstance(hits, list) or not hits:
            raise unavailable(404, f"record {doi}", self.name)
        return only_dict(hits[0])

    def _checked(self, reply: Reply, doi: str) -> dict[str, Any]:
        if reply.status != 200:
            raise unavailable(reply.status, f"record {doi}", self.name)
        return json_of(reply)

    async def aclose(self) -> None:
        """Close every connection."""
        await super().aclose()
        await self._api.aclose()


def _own_doi(record: dict[str, Any]) -> str | None:
    """Return the DOI of the version that a record is; None if the record says none."""
    try:
        return parsed_doi(str(record.get("doi", "")))
    except BinderyError:
        return None
