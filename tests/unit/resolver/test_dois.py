"""DOIs in links: what is written there is read as the same DOI."""

import pytest

from services.resolver.dois import doi_links, in_link, parsed_doi


@pytest.mark.parametrize(
    "doi", ["10.5281/zenodo.7", "10.1234/a%41", "10.1002/(SICI)1-2<3:AID>4.0.CO;2-W", "10.1234/a#b?c&d", "10.1234/ü/7"]
)
def test_a_doi_in_a_link_is_that_doi(doi: str) -> None:
    assert parsed_doi(in_link(doi)) == doi
    assert not {"#", "?", " "} & set(in_link(doi))


def test_a_doi_of_hydroshare_is_a_link_by_the_resources_id_too() -> None:
    links = [str(link) for link in doi_links("10.4211/HS.142C59757ED54DE1816777828C9716E7")]
    assert "hydroshare/142c59757ed54de1816777828c9716e7" in links
