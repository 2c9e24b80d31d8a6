"""Resources on HydroShare. Spec: anything with the resource's id in it: the id, its page's URL, or its DOI."""

import re
from typing import Any
from urllib.parse import quote, unquote

import httpx

from services.common.models import ResolvedRepo, Site, Spec
from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable
from services.resolver.dois import doi_links
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.providers.archive import Archive, epoch_of, unavailable
from services.resolver.settings import ResolverSettings
from services.resolver.sites import HYDROSHARE

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class HydroShare(Archive):
    """Public resources, which change unless they are published. Its API: https://www.hydroshare.org/hsapi/."""

    prefix = "hydroshare"
    name = "Hydroshare"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._api = Forge(ForgeHost(name="HydroShare", label="hydroshare", url=settings.hydroshare_api_url), settings)

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        return {
            "displayName": "Hydroshare resource",
            "id": self.prefix,
            "spec": {"validateRegex": "[^/]+"},
            "repo": {
                "label": "Hydroshare resource id",
                "placeholder": "example: 8f7c2f0341ef4180b0dbe97f59130756",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (HYDROSHARE.updated(url=self.settings.hydroshare_url),)

    def has(self, page: httpx.URL) -> bool:
        """See `Archive`."""
        host = httpx.URL(self.settings.hydroshare_url).host
        return page.host in {host, host.removeprefix("www.")} and bool(_ID.search(page.path.lower()))

    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """See `Archive`."""
        return await self._resource(spec, _resource_id(page.path))

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the resource as it was last changed."""
        return await self._resource(spec, _resource_id(spec))

    async def _resource(self, spec: str, resource: str) -> ResolvedRepo:
        reply = await self._api.get(f"/resource/{resource}/scimeta/elements")
        if reply.status != 200:
            raise unavailable(reply.status, f"resource {resource}", "HydroShare")

        dates = json_of(reply).get("dates")
        listed = [date for date in dates if isinstance(date, dict)] if isinstance(dates, list) else []
        changed_at = next((date.get("start_date") for date in listed if date.get("type") == "modified"), None)
        url = f"{self.settings.hydroshare_url}/resource/{resource}"
        ref = f"{resource}.v{epoch_of(changed_at, 'HydroShare')}"
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=ref,
            resolved_spec=resource,
            ref_url=url,
            slug=f"hydroshare-{ref}",
            display_name=f"HydroShare {resource}",
            content_provider="Hydroshare",
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the links by the id, by the page's URL, and by the DOI that a published resource has."""
        resource = _resource_id(spec)
        by_url = quote(f"{self.settings.hydroshare_url}/resource/{resource}", safe="")
        own = tuple(Spec(provider=self.prefix, spec=each) for each in (resource, by_url))
        return (*own, *doi_links(f"10.4211/hs.{resource}"))

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link as it is, by the id alone, and by the page's URL."""
        own = [link for link in self.also_known_as(spec) if link.provider == self.prefix]
        return (*super().allowed_as(spec), *own)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._api.aclose()


def _resource_id(text: str) -> str:
    """Return the id in a percent-encoded text. Raise `BinderyError("bad_spec")` if there is none, or several."""
    decoded = unquote(text)
    ids: set[str] = set(_ID.findall(decoded.lower()))
    if len(ids) != 1:
        raise BinderyError(
            "bad_spec",
            f"{quotable(decoded[:200])!r} does not name a HydroShare resource: its id has 32 digits from 0 to f, such "
            "as 8f7c2f0341ef4180b0dbe97f59130756.",
        )
    return ids.pop()
