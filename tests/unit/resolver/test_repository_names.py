"""The links by which one repository can be named."""

import pytest

from services.resolver.repository_names import links_to, path_on_forge

GITHUB = "https://github.com"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://github.com/org/repo", "org/repo"),
        ("https://github.com/org/repo.git/", "org/repo"),
        ("git@github.com:org/repo", "org/repo"),
        ("https://www.GitHub.com:443/Org/Repo", "Org/Repo"),
        ("https://github.com.example.org/org/repo", None),
        ("https://example.org/github.com/org/repo", None),
        ("https://github.com", None),
    ],
)
def test_a_path_on_a_forge_is_what_follows_its_address(url: str, path: str | None) -> None:
    assert path_on_forge(GITHUB, url) == path
    assert path_on_forge(f"{GITHUB}/", url) == path


def test_a_forge_below_a_path_has_only_what_is_below_it() -> None:
    forge = "https://example.org/forge"
    assert path_on_forge(forge, "https://example.org/forge/org/repo") == "org/repo"
    assert path_on_forge(forge, "https://example.org/forgery/repo") is None


def test_links_are_distinct_and_keep_the_ref() -> None:
    links = links_to("https://github.com/org/repo", "feature/x", GITHUB)
    assert len(links) == len(set(links)) == 5
    assert all(link.spec.endswith("/feature/x") for link in links)
    assert [str(link) for link in links if link.provider == "gh"] == ["gh/org/repo/feature/x"]


def test_a_repository_elsewhere_has_no_gh_link() -> None:
    assert {link.provider for link in links_to("https://example.org/org/repo", "main", GITHUB)} == {"git"}
