"""DOIs: their syntax, the links that name a deposit by its DOI, and where doi.org says that a DOI leads."""

import re
from urllib.parse import quote, unquote

import httpx

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.net.checked_url import checked_url
from services.common.service.redaction import quotable
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.settings import ResolverSettings

DOI_MAX_LENGTH = 512

_BEFORE = re.compile(r"(?i)(?:https?:/{1,2}(?:dx\.|www\.)?doi\.org/|doi:\s*)")
_DOI = re.compile(r"10\.[0-9]{1,9}(?:\.[0-9]{1,9})*/[!-~\u00a1-\U0010ffff]+")
_HYDROSHARE = re.compile(r"(?i)10\.4211/hs\.([0-9a-f]{32})")
_PROVIDERS_BY_DOI = ("zenodo", "figshare", "dataverse", "doi")
_HANDLE_FOUND = 1
_HANDLE_MISSING = 100


def parsed_doi(spec: str) -> str:
    """Return the DOI in a percent-encoded text: alone, after `doi:`, or as an address of doi.org.

    Raise `BinderyError("bad_spec")` for any other text. Source: https://www.doi.org/doi-handbook/, section 3.
    """
    text = unquote(spec).strip().rstrip("/")
    before = _BEFORE.match(text)
    doi = text[before.end() :] if before else text
    is_path = not any(part in {".", ".."} for part in doi.split("/"))
    if not (_DOI.fullmatch(doi) and doi.isprintable() and len(doi) <= DOI_MAX_LENGTH and is_path):
        raise BinderyError("bad_spec", f"{quotable(text[:200])!r} is not a DOI: one looks like 10.5281/zenodo.3242074.")
    return doi


def in_link(doi: str) -> str:
    """Return a DOI as it is written in links."""
    return quote(doi, safe="/:")


def doi_links(doi: str) -> tuple[Spec, ...]:
    """Return every link that names a deposit by its DOI, whichever archive has it."""
    links = [Spec(provider=provider, spec=in_link(doi)) for provider in _PROVIDERS_BY_DOI]
    if of_hydroshare := _HYDROSHARE.fullmatch(doi):
        links.append(Spec(provider="hydroshare", spec=of_hydroshare[1].lower()))
    return tuple(links)


class DoiOrg:
    """Knows where DOIs lead, whichever agency registered them.

    Source: https://www.doi.org/the-identifier/resources/factsheets/doi-resolution-documentation, section 5.
    """

    def __init__(self, settings: ResolverSettings) -> None:
        self._api = Forge(ForgeHost(name="doi.org", label="doi", url=settings.doi_url), settings)

    async def page(self, doi: str) -> httpx.URL:
        """Return the address of the page that a DOI leads to.

        Raise `BinderyError`: `ref_not_found` (no such DOI, or it leads nowhere), `rate_limited`,
        `provider_unavailable`.
        """
        reply = await self._api.get(f"/api/handles/{quote(doi, safe='/')}?type=URL")
        answer = json_of(reply)
        code = answer.get("responseCode")
        if reply.status == 404 or code == _HANDLE_MISSING:
            raise BinderyError(
                "ref_not_found", f"There is no DOI {doi}. Compare it with the one on the archive's page."
            )
        if reply.status != 200:
            raise BinderyError("provider_unavailable", f"doi.org answered {reply.status}.")

        values = answer.get("values") if code == _HANDLE_FOUND else None
        for value in values if isinstance(values, list) else []:
            if isinstance(value, dict) and value.get("type") == "URL" and isinstance(value.get("data"), dict):
                return page_of(doi, value["data"].get("value"))
        raise nowhere(doi)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._api.aclose()


def page_of(doi: str, address: object) -> httpx.URL:
    """Return the address that is registered for a DOI. Raise `BinderyError("ref_not_found")` if it is not one."""
    try:
        return checked_url(address if isinstance(address, str) else "")
    except BinderyError as error:
        raise nowhere(doi) from error


def nowhere(doi: str) -> BinderyError:
    """Return the error for a DOI without a page."""
    return BinderyError("ref_not_found", f"The DOI {doi} leads to no page. Ask whoever published it.")
