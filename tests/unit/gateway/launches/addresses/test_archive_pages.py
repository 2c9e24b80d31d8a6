"""Pages and identifiers of archives, read by the rows of the providers that resolve them."""

import pytest

from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.repository_types import RepositoryType
from services.resolver.providers import load_providers
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

RESOURCE = "142c59757ed54de1816777828c9716e7"
REVISION = "swh:1:rev:69c0db5050f623e8895b72dfe970392b1f9a0e2e"
TYPES = [
    RepositoryType.of({**each.display_config, "sites": [site.model_dump(mode="json") for site in each.sites]})
    for each in load_providers(settings_for(ResolverSettings)).values()
]


@pytest.mark.parametrize(
    ("text", "provider", "link"),
    [
        ("10.5281/zenodo.7", "", "zenodo/10.5281/zenodo.7"),
        ("10.6084/m9.figshare.9782777.v2", "", "figshare/10.6084/m9.figshare.9782777.v2"),
        ("https://figshare.com/articles/dataset/A_title/9782777", "", "figshare/10.6084/m9.figshare.9782777"),
        (f"https://www.hydroshare.org/resource/{RESOURCE}/", "", f"hydroshare/resource%2F{RESOURCE}"),
        (f"https://doi.org/10.4211/hs.{RESOURCE}", "", f"hydroshare/10.4211%2Fhs.{RESOURCE}"),
        ("https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/X", "", "dataverse/10.7910/DVN/X"),
        (
            "https://x.example/dataset/sea-turtles?activity_id=1",
            "ckan",
            "ckan/https%3A%2F%2Fx.example%2Fdataset%2Fsea-turtles%3Factivity_id%3D1",
        ),
        (REVISION, "swh", f"swh/{REVISION.replace(':', '%3A')}"),
        (f"https://archive.softwareheritage.org/{REVISION}", "", f"swh/{REVISION.replace(':', '%3A')}"),
        ("https://doi.org/10.5061/dryad.x", "", "doi/10.5061/dryad.x"),
        ("10.5281/zenodo.7", "doi", "doi/10.5281/zenodo.7"),
    ],
)
def test_a_page_or_an_identifier_is_launched_by_the_provider_of_its_archive(
    text: str, provider: str, link: str
) -> None:
    reading = read_address(text, TYPES, provider)
    assert [str(candidate.link.spec) for candidate in reading.candidates] == [link]
