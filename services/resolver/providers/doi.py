"""Any DOI. Spec: `<DOI>`: DataCite knows which archive it is of, and that archive's provider resolves it."""

from typing import Any
from urllib.parse import quote

import httpx

from services.common.models import ResolvedRepo, Site, Spec
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.resolver.dois import DoiOrg, doi_links, in_link, page_of, parsed_doi
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.providers.archive import DOI_PATTERN, Archive
from services.resolver.providers.base import Resolved, RevalidatingProvider
from services.resolver.providers.ckan import CKAN
from services.resolver.providers.dataverse import Dataverse
from services.resolver.providers.figshare import Figshare
from services.resolver.providers.hydroshare import HydroShare
from services.resolver.providers.zenodo import Zenodo
from services.resolver.settings import ResolverSettings
from services.resolver.sites import DOI_ORG

_ARCHIVES: tuple[type[Archive], ...] = (Zenodo, Figshare, HydroShare, Dataverse, CKAN)


class Doi(RevalidatingProvider):
    """DOIs of deposits in the archives whose providers there are here, under the rules for those.

    DataCite's API: https://support.datacite.org/docs/api-get-doi.
    """

    prefix = "doi"
    name = "DOI"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        chosen = settings.provider_prefixes
        self._archives = [kind(settings) for kind in _ARCHIVES if not chosen or kind.prefix in chosen]
        host = ForgeHost(name="DataCite", label="datacite", url=settings.datacite_api_url)
        self._datacite = Forge(host, settings, headers={"Accept": "application/vnd.api+json"})
        self._doi_org = DoiOrg(settings)

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        return {
            "displayName": "DOI",
            "id": self.prefix,
            "spec": {"validateRegex": DOI_PATTERN},
            "repo": {
                "label": "DOI of an archive",
                "placeholder": "example: 10.5281/zenodo.3242074",
                "urlEncode": False,
            },
            "ref": {"enabled": False},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (DOI_ORG,)

    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """Find the archive, and have its provider say what the DOI means now."""
        doi = parsed_doi(spec)
        page, publisher = await self._deposit(doi)
        for archive in self._archives:
            if archive.has(page):
                repo = await archive.at(spec, doi, page)
                link = Spec(provider=archive.prefix, spec=repo.resolved_spec)
                return Resolved(self._own(repo, doi), other_links=(link,))

        names = ", ".join(archive.name for archive in self._archives) or "none"
        raise BinderyError(
            "ref_not_found",
            f"The DOI {doi} leads to {page.host}{publisher}, from which nothing can be launched here. The archives are "
            f"{names}. If a git repository has the same content, launch that.",
        )

    def _own(self, repo: ResolvedRepo, doi: str) -> ResolvedRepo:
        """Return what an archive's provider resolved as what this one did, so that its link is a DOI again."""
        try:
            resolved = parsed_doi(repo.resolved_spec)
        except BinderyError:
            resolved = doi
        return repo.updated(provider=self.prefix, resolved_spec=in_link(resolved))

    async def _deposit(self, doi: str) -> tuple[httpx.URL, str]:
        """Return a deposit's page, and who published it in words for behind that; empty if DataCite does not know it.

        A DOI that another agency registered is not DataCite's, and doi.org knows where it leads.
        """
        reply = await self._datacite.get(f"/dois/{quote(doi, safe='/')}")
        if reply.status == 404:
            return await self._doi_org.page(doi), ""
        if reply.status != 200:
            raise BinderyError("provider_unavailable", f"DataCite answered {reply.status}.")
        attributes = only_dict(only_dict(json_of(reply).get("data")).get("attributes"))
        publisher = attributes.get("publisher")
        words = f" ({publisher[:100]})" if isinstance(publisher, str) and publisher.isprintable() else ""
        return page_of(doi, attributes.get("url")), words

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the links by the same DOI of the archives' providers."""
        return doi_links(parsed_doi(spec))

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link as it is, and the DOI alone."""
        return (*super().allowed_as(spec), Spec(provider=self.prefix, spec=in_link(parsed_doi(spec))))

    async def aclose(self) -> None:
        """Close every connection."""
        for archive in self._archives:
            await archive.aclose()
        await self._datacite.aclose()
        await self._doi_org.aclose()
