"""Launch links of Bindery and of BinderHubs, badges and DOIs, and what they are read as."""

import pytest

from services.gateway.launches.addresses.reader import read_address
from tests.support.sample_providers import BY_ID, TYPES
from tests.unit.gateway.launches.addresses.reading import links, refusal


@pytest.mark.parametrize(
    ("link", "read_as"),
    [
        ("https://mybinder.org/v2/gh/ann/notes/wip/plots", "gh/ann/notes/wip/plots"),
        ("mybinder.org/v2/gh/ann/notes/HEAD/", "gh/ann/notes/HEAD"),
        (
            "https://hub.example.org/binder/v2/gh/ann/notes/HEAD?urlpath=lab%2Ftree%2Fa%2520b.py#x",
            "gh/ann/notes/HEAD?urlpath=lab%2Ftree%2Fa%2520b.py",
        ),
        (
            "https://mybinder.org/v2/gh/ann/notes/v1?labpath=a%20b.ipynb",
            "gh/ann/notes/v1?urlpath=doc%2Ftree%2Fa%2520b.ipynb",
        ),
        ("https://mybinder.org/v2/gh/ann/notes/v1?filepath=a.ipynb", "gh/ann/notes/v1?urlpath=tree%2Fa.ipynb"),
        (
            "https://mybinder.org/v2/git/https%3A%2F%2Fx.example%2Fa%252Fb/fix%23",
            "git/https%3A%2F%2Fx.example%2Fa%252Fb/fix%23",
        ),
        (
            "https://mybinder.org/v2/git/https%3A//x.example/a.git/wip/plots",
            "git/https%3A%2F%2Fx.example%2Fa.git/wip/plots",
        ),
        ("https://mybinder.org/v2/gist/ann/8c2f6a1d0b9e/HEAD", "gist/ann/8c2f6a1d0b9e/HEAD"),
        ("https://mybinder.org/build/gh/ann/notes/HEAD", "gh/ann/notes/HEAD"),
        ("https://mybinder.org/repo/ann/notes", "gh/ann/notes/HEAD"),
        ("https://mybinder.org/v2/zenodo/10.5281/zenodo.7/", "zenodo/10.5281/zenodo.7"),
        ("/v2/gh/ann/notes/HEAD?urlpath=lab", "gh/ann/notes/HEAD?urlpath=lab"),
        (
            "https://mybinder.org/v2/gl/team%2Funit%2Fnotes/wip/plots?labpath=a.py",
            "gl/team%2Funit%2Fnotes/wip/plots?urlpath=doc%2Ftree%2Fa.py",
        ),
        ("127.0.0.1:8585/v2/gh/ann/notes/HEAD", "gh/ann/notes/HEAD"),
    ],
)
def test_links_of_any_binderhub_are_decoded_once(link: str, read_as: str) -> None:
    assert links(link) == [f"v2/{read_as}"]
    assert links(link, "git") == [f"v2/{read_as}"]


def test_a_link_of_a_provider_that_is_not_here_names_those_that_are() -> None:
    error = refusal("https://mybinder.org/v2/ckan/x/y")
    assert error.code == "unknown_provider"
    assert "'ckan'" in error.detail
    assert "gh (GitHub), gist (GitHub Gist), git (Git repository), gl (GitLab)" in error.detail


def test_an_incomplete_link_shows_a_complete_one() -> None:
    error = refusal("https://mybinder.org/v2/gh/ann/notes")
    assert error.code == "bad_spec"
    assert "looks like /v2/gh/<owner>/<name>/<ref>" in error.detail


def test_a_repository_in_folders_that_are_named_like_a_link_is_not_one() -> None:
    assert links("https://git.example.org/v2/gh/notes.git") == [
        "v2/git/https%3A%2F%2Fgit.example.org%2Fv2%2Fgh%2Fnotes.git/HEAD"
    ]


DOIS = ["10.5281/zenodo.7", "doi:10.5281/zenodo.7", "https://doi.org/10.5281/zenodo.7", "doi.org/10.5281/zenodo.7",
        "http://dx.doi.org/10.5281/zenodo.7", "https://doi.org/10.5281/zenodo.7?x#y"]  # fmt: skip


PAGES = ["https://zenodo.org/records/7", "https://zenodo.org/record/7/files/a.zip?download=1",
         "https://zenodo.org/doi/10.5281/zenodo.7", "https://zenodo.org/badge/DOI/10.5281/zenodo.7.svg",
         "https://archive.example.org/dataset.xhtml?persistentId=doi:10.5281/zenodo.7&version=1"]  # fmt: skip


@pytest.mark.parametrize("doi", [*DOIS, *PAGES])
@pytest.mark.parametrize("provider", ["", "gh", "git", "zenodo"])
def test_a_doi_is_launched_by_the_type_that_has_its_archive(doi: str, provider: str) -> None:
    assert links(doi, provider) == ["v2/zenodo/10.5281/zenodo.7"]


@pytest.mark.parametrize("doi", [*DOIS, *PAGES])
def test_a_doi_without_such_a_type_is_refused_with_a_sentence(doi: str) -> None:
    error = refusal(doi, types=[BY_ID["gh"], BY_ID["git"]])
    assert error.code == "unknown_provider"
    assert "10.5281/zenodo.7 is a DOI, whose archive can't be launched here" in error.detail
    assert "GitHub, Git repository" in error.detail


@pytest.mark.parametrize(
    ("address", "name"), [("https://zenodo.org/communities/x", "Zenodo"), ("https://osf.io/abcde/", "OSF")]
)
def test_a_page_of_an_archive_without_such_a_type_is_no_git_repository(address: str, name: str) -> None:
    error = refusal(address)
    assert error.code == "unknown_provider" if name == "OSF" else "bad_spec"
    error = refusal(address, types=[BY_ID["gh"], BY_ID["git"]])
    assert error.code == "unknown_provider"
    assert f"on {name}, whose repositories can't be launched here" in error.detail


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://hub.example.org/user/ann-notes-1x/lab/tree/a.ipynb?token=t", "is the address of a running server"),
        ("https://hub.example.org/jupyter/user/ann/rstudio/", "is the address of a running server"),
        ("https://hub.example.org/badge_logo.svg", "is the address of a file"),
        ("https://x.example/data/a.ipynb", "is the address of a file"),
        ("https://mybinder.org/", "is on mybinder.org, and not the address of a repository"),
        ("https://colab.research.google.com/drive/1x", "is on Colab, and not the address of a repository"),
    ],
)
@pytest.mark.parametrize("provider", ["", "gh", "git"])
def test_what_is_plainly_no_repository_is_refused_with_a_sentence(address: str, says: str, provider: str) -> None:
    error = refusal(address, provider)
    assert error.code == "bad_spec"
    assert says in error.detail


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://mail.example/?url=https%3A%2F%2Fgithub.com%2Fann%2Fnotes%2Fpull%2F3&x=1", "refs/pull/3/head"),
        ("https://archive.example/web/2020/https://github.com/ann/notes/tree/v1", "v1"),
        (
            "https://hub.example.org/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fann%2Fnotes&branch=wip",
            "wip",
        ),
    ],
)
def test_an_address_that_leads_to_another_is_read_as_that_and_says_so(address: str, link: str) -> None:
    reading = read_address(address, TYPES)
    assert [candidate.link.url("") for candidate in reading.candidates] == [f"v2/gh/ann/notes/{link}"]
    assert "which that address leads to" in reading.notice
