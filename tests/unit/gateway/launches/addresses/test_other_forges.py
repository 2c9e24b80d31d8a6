"""Addresses of other forges than GitHub, and of providers of other packages, and what they are read as."""

from urllib.parse import quote

import pytest

from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.repository_types import RepositoryType
from tests.support.sample_providers import PROVIDERS, TYPES
from tests.unit.gateway.launches.addresses.reading import links, refusal

GITHUB = "https://github.com/ann/notes"
SHA = "8c2f6a1d0b9e47355f6e0d1c2b3a49586f7e0d1c"


@pytest.mark.parametrize(
    ("text", "links_of_it"),
    [
        ("https://gitlab.com/team/unit/notes", ["team%2Funit%2Fnotes/HEAD"]),
        ("https://gitlab.com/team/notes.git", ["team%2Fnotes.git/HEAD"]),
        ("git@gitlab.com:team/notes.git", ["team%2Fnotes.git/HEAD"]),
        ("https://gitlab.com/team/unit/notes/-/tree/main?ref_type=heads", ["team%2Funit%2Fnotes/main"]),
        (
            "https://gitlab.com/team/notes/-/tree/wip/me",
            ["team%2Fnotes/wip/me", "team%2Fnotes/wip?urlpath=%2Flab%2Ftree%2Fme"],
        ),
        ("https://gitlab.com/team/notes/tree/main", ["team%2Fnotes/main"]),
        (
            "https://gitlab.com/team/notes/-/blob/main/a.ipynb?ref_type=heads#L2",
            ["team%2Fnotes/main?urlpath=%2Fdoc%2Ftree%2Fa.ipynb"],
        ),
        ("https://gitlab.com/team/notes/-/merge_requests/5/diffs", ["team%2Fnotes/refs/merge-requests/5/head"]),
        ("https://gitlab.com/team/notes/-/tags/v1", ["team%2Fnotes/v1"]),
        ("https://gitlab.com/team/notes/-/commit/8c2f6a1d", ["team%2Fnotes/8c2f6a1d"]),
        (f"https://gitlab.com/team/notes/-/merge_requests/5/diffs?commit_id={SHA}", [f"team%2Fnotes/{SHA}"]),
        ("https://gitlab.com/team/notes/merge_requests/5", ["team%2Fnotes/refs/merge-requests/5/head"]),
        ("https://gitlab.com/team/notes/repository/archive.zip?ref=wip%2Fme", ["team%2Fnotes/wip/me"]),
        ("ssh://git@altssh.gitlab.com:443/team/notes.git", ["team%2Fnotes.git/HEAD"]),
    ],
)
def test_pages_of_gitlab_are_launched_by_its_provider_or_by_git(text: str, links_of_it: list[str]) -> None:
    by_provider = [f"v2/gl/{link.replace('.git/', '/')}" for link in links_of_it]
    assert links(text) == links(text, "gl") == links(text, "gh") == by_provider
    assert links(text, "git") == [f"v2/git/https%3A%2F%2Fgitlab.com%2F{link}" for link in links_of_it]


@pytest.mark.parametrize(
    ("text", "url", "rest"),
    [
        ("https://gist.github.com/8c2f6a1d0b9e", "https://gist.github.com/8c2f6a1d0b9e.git", "HEAD"),
        (f"https://gist.github.com/8c2f6a1d/{SHA}", "https://gist.github.com/8c2f6a1d.git", SHA),
        ("https://gist.github.com/8c2f6a1d0b9e.git", "https://gist.github.com/8c2f6a1d0b9e.git", "HEAD"),
        ("https://git.example.org/ann/notes/src/commit/8c2f6a1d", "https://git.example.org/ann/notes", "8c2f6a1d"),
        ("https://gitlab.example.org/x/y/z/-/tree/main", "https://gitlab.example.org/x/y/z", "main"),
        (
            "https://git.sr.ht/~ann/notes/tree/wip/plots/item/a.py",
            "https://git.sr.ht/~ann/notes",
            "wip/plots?urlpath=%2Fdoc%2Ftree%2Fa.py",
        ),
        ("https://huggingface.co/ann/notes", "https://huggingface.co/ann/notes", "HEAD"),
        ("https://hf.co/notes/tree/main", "https://huggingface.co/notes", "main"),
        ("https://huggingface.co/spaces/ann/notes/blob/main/a.py", "https://huggingface.co/spaces/ann/notes",
         "main?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://huggingface.co/datasets/ann/notes/discussions/4", "https://huggingface.co/datasets/ann/notes",
         "refs/pr/4"),
        ("https://dev.azure.com/team/x/_git/notes", "https://dev.azure.com/team/x/_git/notes", "HEAD"),
        ("https://dev.azure.com/team/x/_git/notes?path=/a.py&version=GBwip%2Fplots",
         "https://dev.azure.com/team/x/_git/notes", "wip/plots?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://git.example.org/cgit/notes.git/tree/a.py?h=wip/plots", "https://git.example.org/cgit/notes.git",
         "wip/plots?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        (f"https://git.example.org/notes.git/commit/?h=wip&id={SHA}", "https://git.example.org/notes.git", SHA),
        ("https://git.example.org/notes.git/log/", "https://git.example.org/notes.git", "HEAD"),
        ("https://git.example.org/forge/ann/notes/src/branch/main", "https://git.example.org/forge/ann/notes", "main"),
        ("https://git.example.org/ann/notes/tree/main", "https://git.example.org/ann/notes", "main"),
        ("https://git.example.org/ann/notes/blob/main/a.py", "https://git.example.org/ann/notes",
         "main?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://git.example.org/ann/notes/pulls/4", "https://git.example.org/ann/notes", "refs/pull/4/head"),
        ("https://git.example.org/ann/tree/notes.git", "https://git.example.org/ann/tree/notes.git", "HEAD"),
        ("https://git.example.org/srv/issues.git", "https://git.example.org/srv/issues.git", "HEAD"),
        ("HTTPS://GIT.Example.ORG:/ann/Notes", "https://git.example.org/ann/Notes", "HEAD"),
        ("192.0.2.7:3000/ann/notes", "https://192.0.2.7:3000/ann/notes", "HEAD"),
        ("192.0.2.7/ann/notes", "https://192.0.2.7/ann/notes", "HEAD"),
        ("https://git.example.org/notes.git#x", "https://git.example.org/notes.git", "HEAD"),
        ("git.example.org/~ann/My%20Notes", "https://git.example.org/~ann/My%20Notes", "HEAD"),
        ("git.example.org/ann/My Notes", "https://git.example.org/ann/My%20Notes", "HEAD"),
        ("http://[::1]:8765/ann/notes", "http://[::1]:8765/ann/notes", "HEAD"),
        ("https://git.example.org/数据/笔记.git", "https://git.example.org/数据/笔记.git", "HEAD"),
        ("https://git.example.org/it's/(new).git", "https://git.example.org/it's/(new).git", "HEAD"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["", "gh", "git"])
def test_other_forges_are_launched_by_git(text: str, url: str, rest: str, provider: str) -> None:
    assert links(text, provider) == [f"v2/git/{quote(url, safe='')}/{rest}"]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://gist.github.com/ann/8c2f6a1d0b9e", "ann/8c2f6a1d0b9e/HEAD"),
        ("https://gist.github.com/ann/8c2f6a1d0b9e.git", "ann/8c2f6a1d0b9e/HEAD"),
        (f"https://gist.github.com/ann/8c2f6a1d/{SHA}#file-a-py", f"ann/8c2f6a1d/{SHA}"),
        (f"https://gist.github.com/ann/8c2f6a1d/raw/{SHA}/a.py",
         f"ann/8c2f6a1d/{SHA}?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://gist.githubusercontent.com/ann/8c2f6a1d/raw/a.py", "ann/8c2f6a1d/HEAD?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://nbviewer.org/gist/ann/8c2f6a1d", "ann/8c2f6a1d/HEAD"),
    ],
)  # fmt: skip
def test_gists_are_launched_by_their_provider(text: str, link: str) -> None:
    assert links(text) == links(text, "gist") == [f"v2/gist/{link}"]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://codeberg.org/ann/notes", "HEAD"),
        ("git@codeberg.org:ann/notes.git", "HEAD"),
        ("codeberg.org/ann/notes", "HEAD"),
        ("https://codeberg.org/ann/notes/src/branch/main", "main"),
        ("https://codeberg.org/ann/notes/pulls/4", "refs/pull/4/head"),
        ("https://mybinder.org/v2/gitea/codeberg.org/ann/notes/wip/me", "wip/me"),
    ],
)
def test_pages_of_codeberg_are_launched_by_its_provider(text: str, link: str) -> None:
    assert links(text) == links(text, "gitea") == [f"v2/gitea/codeberg.org/ann/notes/{link}"]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("git@bitbucket.org:ann/notes.git", "HEAD"),
        ("https://bitbucket.org/ann/notes/branch/wip/plots", "wip/plots"),
        ("https://bitbucket.org/ann/notes/src/main/", "main"),
        ("https://bitbucket.org/ann/notes/src", "HEAD"),
        (
            "https://bitbucket.org/ann/notes/src/8c2f6a1d0b9e/a.py?x=1&at=wip%2Fplots",
            "wip/plots?urlpath=%2Fdoc%2Ftree%2Fa.py",
        ),
        (f"https://bitbucket.org/ann/notes/src/{SHA}/a.py?at=main", f"{SHA}?urlpath=%2Fdoc%2Ftree%2Fa.py"),
    ],
)
def test_pages_of_bitbucket_are_launched_by_its_provider(text: str, link: str) -> None:
    assert links(text) == links(text, "bb") == [f"v2/bb/ann/notes/{link}"]


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("https://gitlab.com/team/notes/-/issues/4", "team/notes on GitLab"),
        ("https://gitlab.com/team/unit/notes/-/wikis/home", "team/unit/notes on GitLab"),
        ("https://gitlab.com/team/notes/issues/4", "team/notes on GitLab"),
        ("https://gitlab.com/team/notes/wikis/home", "team/notes on GitLab"),
        ("https://codeberg.org/ann/notes/issues/3", "ann/notes on Codeberg"),
        ("https://bitbucket.org/ann/notes/pull-requests/3", "ann/notes on Bitbucket"),
        ("https://huggingface.co/ann/notes/settings", "ann/notes on Hugging Face"),
        ("https://git.sr.ht/~ann/notes/refs", "~ann/notes on SourceHut"),
        ("https://git.example.org/team/notes/-/pipelines", "team/notes on git.example.org"),
        ("https://git.example.org:8443/ann/notes/issues/3", "ann/notes on git.example.org:8443"),
        ("https://git.example.org/ann/notes/issues", "ann/notes on git.example.org"),
        ("https://git.example.org/ann/notes/wiki/Home", "ann/notes on git.example.org"),
    ],
)
@pytest.mark.parametrize("provider", ["", "gh", "git"])
def test_a_page_that_shows_no_ref_is_refused_with_a_sentence(page: str, name: str, provider: str) -> None:
    error = refusal(page, provider)
    assert error.code == "bad_spec"
    assert f"is a page of {name} that shows none of its branches" in error.detail


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://gitlab.com/groups/team", "GitLab"), ("https://gitlab.com/-/snippets/1", "GitLab"),
        ("https://huggingface.co/papers/1", "Hugging Face"), ("https://bitbucket.org/ann", "Bitbucket"),
        ("https://codeberg.org/explore/repos", "Codeberg"), ("https://gist.github.com/ann", "GitHub Gist"),
    ],
)  # fmt: skip
def test_what_is_no_repository_there_is_refused_with_a_sentence(address: str, name: str) -> None:
    error = refusal(address)
    assert error.code == "bad_spec"
    assert f"is not the address of a repository on {name}" in error.detail


def test_ssh_to_a_host_that_no_row_knows_is_read_as_https_and_says_so() -> None:
    reading = read_address("git@git.example.org:ann/notes.git", TYPES)
    assert [candidate.link.url("") for candidate in reading.candidates] == [
        "v2/git/https%3A%2F%2Fgit.example.org%2Fann%2Fnotes.git/HEAD"
    ]
    assert "read as https://git.example.org/ann/notes.git" in reading.notice


@pytest.mark.parametrize(
    ("address", "link"),
    [
        *(
            (f"https://{site}/ann/notes/blob/main/a.py", "main?urlpath=%2Fdoc%2Ftree%2Fa.py")
            for site in ("github.dev", "github1s.com", "vscode.dev/github", "nbviewer.org/github",
                         "nbviewer.jupyter.org/github", "colab.research.google.com/github")
        ),
        ("https://raw.githubusercontent.com/ann/notes/main/a.py", "main?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://raw.githubusercontent.com/ann/notes/refs/heads/main/a.py", "main?urlpath=%2Fdoc%2Ftree%2Fa.py"),
        ("https://media.githubusercontent.com/media/ann/notes/main/a.bin", "main?urlpath=%2Fdoc%2Ftree%2Fa.bin"),
        (
            "https://nbviewer.org/urls/raw.githubusercontent.com/ann/notes/main/a.py",
            "main?urlpath=%2Fdoc%2Ftree%2Fa.py",
        ),
        ("https://codespaces.new/ann/notes/tree/main?quickstart=1", "main"),
        ("https://github.com/codespaces/new/ann/notes", "HEAD"),
        ("https://codeload.github.com/ann/notes/zip/refs/heads/wip/plots", "wip/plots"),
        ("https://codeload.github.com/ann/notes/tar.gz/v2", "v2"),
        ("https://api.github.com/repos/ann/notes/tarball/v2", "v2"),
        ("ssh://git@ssh.github.com:443/ann/notes.git", "HEAD"),
    ],
)  # fmt: skip
def test_sites_that_show_what_is_on_github(address: str, link: str) -> None:
    assert links(address) == [f"v2/gh/ann/notes/{link}"]


def test_a_repository_of_a_forge_is_launched_by_git_if_that_was_chosen() -> None:
    assert links(GITHUB, "git") == ["v2/git/https%3A%2F%2Fgithub.com%2Fann%2Fnotes/HEAD"]
    assert links(f"{GITHUB}/pull/3", "git") == ["v2/git/https%3A%2F%2Fgithub.com%2Fann%2Fnotes/refs/pull/3/head"]


OTHER_HOST = {
    "displayName": "Shelf",
    "id": "shelf",
    "spec": {"validateRegex": "[^/]+/[^/]+/.+"},
    "detect": {"regex": "^(https://shelf.example/)?(?<repo>.*[^/])/?"},
    "repo": {"label": "Shelf", "placeholder": "example: a/b", "urlEncode": False},
    "ref": {"enabled": True},
}


def test_a_provider_without_rows_is_found_by_its_pattern() -> None:
    types = [*TYPES, RepositoryType.of(OTHER_HOST)]
    assert links("https://shelf.example/a/b/", types=types) == ["v2/shelf/a/b/HEAD"]
    assert links("a/b", "shelf", types=types) == ["v2/shelf/a/b/HEAD"]


def test_a_providers_own_row_comes_before_that_of_git() -> None:
    config = OTHER_HOST | {
        "spec": {"validateRegex": "[^/]+/.+"},
        "repo": {"urlEncode": True},
        "sites": [
            {
                "name": "Shelf",
                "provider": "shelf",
                "url": "https://shelf.example",
                "repository": "[^/]+(?:/[^/]+)+?",
                "page_mark": "-/",
                "pages": [{"path": "-/shelf/(?P<ref>.+)"}],
            }
        ],
    }
    types = [*TYPES, RepositoryType.of(config)]
    assert links("https://shelf.example/team/unit/notes.git", types=types) == ["v2/shelf/team%2Funit%2Fnotes/HEAD"]
    assert links("https://shelf.example/team/unit/notes/-/shelf/v1", types=types) == ["v2/shelf/team%2Funit%2Fnotes/v1"]
    assert links("https://mybinder.org/v2/shelf/team%2Fnotes/HEAD", types=types) == ["v2/shelf/team%2Fnotes/HEAD"]


def test_rows_that_a_newer_resolver_has_in_another_form_are_left_out() -> None:
    config = PROVIDERS[0] | {"sites": [{"name": "GitHub", "pages": [{"path": "("}]}, *PROVIDERS[0]["sites"]]}
    assert RepositoryType.of(config) == TYPES[0]
