"""Settings of what the resolver alone asks of archives: where DOIs lead, and with which tokens."""

from pydantic import Field, SecretStr, field_validator

from services.common.net.archive_addresses import ADDRESSES_OF_ARCHIVES, ArchiveAddresses

_URLS = ("doi_url", "datacite_api_url")

ADDRESSES_OF_DOIS = ADDRESSES_OF_ARCHIVES | frozenset(_URLS)
"""Names of the settings that lead links to archives elsewhere."""


class ArchiveSettings(ArchiveAddresses):
    """The addresses of archives, and of the registries of DOIs."""

    doi_url: str = Field("https://doi.org", description="Where it is asked what page a DOI leads to.")
    datacite_api_url: str = Field(
        "https://api.datacite.org", description="Where it is asked which archive a DOI of provider `doi` is of."
    )
    software_heritage_token: SecretStr = Field(
        SecretStr(""),
        description="Token for the API of Software Heritage, which answers 1,200 requests an hour with one and 120 "
        "without. Several are separated by commas.",
    )

    @field_validator(*_URLS)
    @classmethod
    def _registry_without_slash(cls, value: str) -> str:
        return value.rstrip("/")
