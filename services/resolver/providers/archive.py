"""What providers of research archives have in common: DOIs as links, and sentences for what can't be launched."""

from abc import abstractmethod
from typing import Any, ClassVar

import httpx

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.service.times import epoch_seconds
from services.resolver.dois import DoiOrg, doi_links, in_link, parsed_doi
from services.resolver.providers.base import Provider
from services.resolver.settings import ResolverSettings

DOI_PATTERN = r"10\.[0-9]+\/(.)+"
"""BinderHub's pattern for specs that are DOIs, as JavaScript reads it; in Python its digits would be any script's."""


class Archive(Provider):
    """A provider of deposits, to whose pages DOIs lead.

    Besides `Provider`, a subclass implements `has` and `at`, by which provider `doi` finds it.
    """

    @abstractmethod
    def has(self, page: httpx.URL) -> bool:
        """Return whether an address has the form of the page of one of the archive's deposits."""

    @abstractmethod
    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """Return the version of a deposit that a DOI, which leads to `page`, means now; `has` says that it is here.

        Raise `BinderyError`, as `resolve` does.
        """


class DoiArchive(Archive):
    """An archive whose links are DOIs. A subclass sets `label` and `example`, for the form."""

    label: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._doi_org = DoiOrg(settings)

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        return {
            "displayName": self.label,
            "id": self.prefix,
            "spec": {"validateRegex": DOI_PATTERN},
            "repo": {"label": self.label, "placeholder": f"example: {self.example}", "urlEncode": False},
            "ref": {"enabled": False},
        }

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Ask doi.org where the DOI leads, and the archive what is there now."""
        doi = parsed_doi(spec)
        page = await self._doi_org.page(doi)
        if not self.has(page):
            raise BinderyError(
                "ref_not_found",
                f"The DOI {doi} leads to {page.host}, and not to a deposit on {self.name}. Launch it as doi/{doi}, "
                "which finds the archive that has it.",
            )
        return await self.at(spec, doi, page)

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the links by the same DOI, of this provider and of the others."""
        return doi_links(parsed_doi(spec))

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link as it is, and the DOI alone."""
        return (*super().allowed_as(spec), Spec(provider=self.prefix, spec=in_link(parsed_doi(spec))))

    async def aclose(self) -> None:
        """Close the connections to doi.org."""
        await self._doi_org.aclose()


def unavailable(status: int, deposit: str, archive: str) -> BinderyError:
    """Return the error for an API's reply other than 200; `deposit` says what was asked for."""
    if status in {401, 403}:
        return not_public(deposit, archive)
    if status in {410, 451}:
        return BinderyError(
            "ref_not_found", f"{archive} has withdrawn {deposit}. Its authors may have published another."
        )
    if status == 404:
        return BinderyError(
            "ref_not_found",
            f"There is no {deposit} on {archive}, or it is not public. Compare it with the archive's page.",
        )
    return BinderyError("provider_unavailable", f"{archive} answered {status}.")


def not_public(deposit: str, archive: str) -> BinderyError:
    """Return the error for a deposit whose files not everybody may read."""
    return BinderyError(
        "ref_not_found",
        f"The files of {deposit} on {archive} are not public, and only public ones can be launched. Ask its authors.",
    )


def not_understood(archive: str) -> BinderyError:
    """Return the error for a reply of an API that lacks what its documentation promises."""
    return BinderyError("provider_unavailable", f"{archive} answered in a form that is not understood.")


def epoch_of(text: object, archive: str) -> int:
    """Return the Unix seconds of a time in ISO 8601, as `epoch_seconds` does.

    Raise `BinderyError("provider_unavailable")` for any other text.
    """
    try:
        return epoch_seconds(text)
    except ValueError:
        raise not_understood(archive) from None
