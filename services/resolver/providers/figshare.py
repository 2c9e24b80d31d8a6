"""Articles on Figshare and the archives that it runs for others. Spec: `<DOI>`; without a `.v<N>`, the newest."""

import re

import httpx

from services.common.models import ResolvedRepo, Site
from services.common.models.errors import BinderyError
from services.resolver.dois import in_link
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.providers.archive import DoiArchive, not_public, not_understood, unavailable
from services.resolver.settings import ResolverSettings
from services.resolver.sites import FIGSHARE

_ARTICLE = re.compile(r"/articles/.*?(?P<id>[0-9]+)(?:/(?P<version>[0-9]{1,4}))?/?")
"""An article's page: its kind and its title, which may be numbers, too, come first."""
_VERSION = re.compile(r"(?i)\.v([0-9]{1,4})\Z")


class Figshare(DoiArchive):
    """Public articles, of which each version has files of its own. Its API: https://docs.figshare.com/#public."""

    prefix = "figshare"
    name = "Figshare"
    label = "FigShare DOI"
    example = "10.6084/m9.figshare.9782777.v1"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._api = Forge(ForgeHost(name=self.name, label="figshare", url=settings.figshare_api_url), settings)

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (FIGSHARE.updated(url=self.settings.figshare_url),)

    def has(self, page: httpx.URL) -> bool:
        """See `Archive`."""
        host = httpx.URL(self.settings.figshare_url).host
        return f".{page.host}".endswith(f".{host}") and _ARTICLE.fullmatch(page.path) is not None

    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """See `Archive`."""
        article = _ARTICLE.fullmatch(page.path)
        number = article["id"] if article else ""
        named = _VERSION.search(doi)
        version = int(named[1]) if named else await self._newest(number, doi)
        await self._check(number, version, doi)

        ref = f"{number}.v{version}"
        resolved = in_link(f"{_VERSION.sub('', doi)}.v{version}")
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"{self.settings.figshare_url}/articles/_/{number}/{version}",
            ref=ref,
            resolved_spec=resolved,
            ref_url=f"{self.settings.doi_url}/{resolved}",
            slug=f"figshare-{ref}",
            display_name=resolved,
            immutable_spec=named is not None,
            content_provider="Figshare",
        )

    async def _newest(self, number: str, doi: str) -> int:
        reply = await self._api.get(f"/articles/{number}/versions")
        if reply.status != 200:
            raise unavailable(reply.status, f"article {doi}", self.name)
        try:
            return max(int(each["version"]) for each in reply.json())
        except (ValueError, TypeError, KeyError):
            raise not_understood(self.name) from None

    async def _check(self, number: str, version: int, doi: str) -> None:
        """Raise `BinderyError` for a version that does not exist, or whose files are not public."""
        reply = await self._api.get(f"/articles/{number}/versions/{version}")
        if reply.status != 200:
            raise unavailable(reply.status, f"version {version} of article {doi}", self.name)
        article = json_of(reply)
        if article.get("id") != int(number):
            raise not_understood(self.name)
        if article.get("is_embargoed") or article.get("is_confidential"):
            raise not_public(f"article {doi}", self.name)
        files = article.get("files")
        if not isinstance(files, list) or all(isinstance(each, dict) and each.get("is_link_only") for each in files):
            raise BinderyError(
                "ref_not_found", f"The article {doi} on Figshare has no files, so that nothing can be built."
            )

    async def aclose(self) -> None:
        """Close every connection."""
        await super().aclose()
        await self._api.aclose()
