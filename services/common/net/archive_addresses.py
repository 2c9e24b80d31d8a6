"""The addresses of archives, which the resolver asks and builds fetch from."""

from pydantic import Field, field_validator

from services.common.net.settings import OutboundSettings

ZENODO_API = "https://zenodo.org/api"
FIGSHARE_API = "https://api.figshare.com/v2"
HYDROSHARE_API = "https://www.hydroshare.org/hsapi"
SOFTWARE_HERITAGE_API = "https://archive.softwareheritage.org/api/1"

_URLS = (
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
"""Names of the settings that lead links to an archive elsewhere."""


class ArchiveAddresses(OutboundSettings):
    """Where the pages and the APIs of archives are. Links name the hosts of Dataverse and CKAN."""

    zenodo_url: str = Field(
        "https://zenodo.org", description="Zenodo's pages. repo2docker fetches from those at zenodo.org only."
    )
    zenodo_api_url: str = Field(ZENODO_API, description="Address of its REST API.")
    figshare_url: str = Field(
        "https://figshare.com", description="Figshare's pages. repo2docker fetches from those at figshare.com only."
    )
    figshare_api_url: str = Field(FIGSHARE_API, description="Address of its REST API.")
    hydroshare_url: str = Field(
        "https://www.hydroshare.org",
        description="HydroShare's pages. repo2docker fetches from those at hydroshare.org only.",
    )
    hydroshare_api_url: str = Field(HYDROSHARE_API, description="Address of its REST API.")
    software_heritage_url: str = Field(
        "https://archive.softwareheritage.org", description="The pages of Software Heritage's archive."
    )
    software_heritage_api_url: str = Field(
        SOFTWARE_HERITAGE_API,
        description="Address of its REST API. repo2docker fetches from archive.softwareheritage.org only.",
    )

    @field_validator(*_URLS)
    @classmethod
    def _archive_without_slash(cls, value: str) -> str:
        return value.rstrip("/")
