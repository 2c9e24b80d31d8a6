"""Settings of the archives that the resolver asks: where their pages and their APIs are."""

from pydantic import Field, SecretStr, field_validator

from services.common.net.settings import OutboundSettings

_URLS = (
    "doi_url",
    "datacite_api_url",
    "zenodo_url",
    "zenodo_api_url",
    "figshare_url",
    "figshare_api_url",
    "hydroshare_url",
    "hydroshare_api_url",
    "software_heritage_url",
    "software_heritage_api_url",
)

ADDRESSES_OF_ARCHIVES = frozenset(_URLS)
"""Names of the settings that lead links elsewhere."""


class ArchiveSettings(OutboundSettings):
    """The addresses of archives, and of the registries of DOIs. Links name the hosts of Dataverse and CKAN."""

    doi_url: str = Field("https://doi.org", description="Where it is asked what page a DOI leads to.")
    datacite_api_url: str = Field(
        "https://api.datacite.org", description="Where it is asked which archive a DOI of provider `doi` is of."
    )
    zenodo_url: str = Field(
        "https://zenodo.org", description="Zenodo's pages. repo2docker fetches from those at zenodo.org only."
    )
    zenodo_api_url: str = Field("https://zenodo.org/api", description="Address of its REST API.")
    figshare_url: str = Field(
        "https://figshare.com", description="Figshare's pages. repo2docker fetches from those at figshare.com only."
    )
    figshare_api_url: str = Field("https://api.figshare.com/v2", description="Address of its REST API.")
    hydroshare_url: str = Field(
        "https://www.hydroshare.org",
        description="HydroShare's pages. repo2docker fetches from those at hydroshare.org only.",
    )
    hydroshare_api_url: str = Field("https://www.hydroshare.org/hsapi", description="Address of its REST API.")
    software_heritage_url: str = Field(
        "https://archive.softwareheritage.org", description="The pages of Software Heritage's archive."
    )
    software_heritage_api_url: str = Field(
        "https://archive.softwareheritage.org/api/1",
        description="Address of its REST API. repo2docker fetches from archive.softwareheritage.org only.",
    )
    software_heritage_token: SecretStr = Field(
        SecretStr(""),
        description="Token for that API, which answers 1,200 requests an hour with one and 120 without. Several are "
        "separated by commas.",
    )

    @field_validator(*_URLS)
    @classmethod
    def _address_without_slash(cls, value: str) -> str:
        return value.rstrip("/")
