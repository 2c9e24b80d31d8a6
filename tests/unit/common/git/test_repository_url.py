"""One form of a repository's URL, however it is spelled."""

import pytest

from services.common.git.repository_url import canonical_url, plain_url, repository_of
from tests.support.in_process_launcher import REPO

HOME = "https://github.com/evil/repo"
SPELLINGS = (
    "https://github.com/evil/repo.git", "https://github.com/evil/repo/", "https://github.com/evil/repo.git/",
    "https://github.com/evil/repo.git.git", "https://github.com:443/evil/repo", "http://github.com:80/evil/repo",
    "http://github.com/evil/repo", "HTTPS://GitHub.COM/evil/repo", "https://github.com./evil/repo",
    "https://www.github.com/evil/repo", "https://www.GitHub.com.:443/evil/repo.git", "https://github.com/%65vil/repo",
    "https://github.com/%65%76il/r%65po%2Egit", "https://github.com/./evil/repo", "https://github.com/evil/./repo/.",
    "https://github.com/x/../evil/repo", "https://github.com/%2e/evil/x/%2E%2e/repo", "https://github.com//evil//repo",
    "https://user@github.com/evil/repo", "https://ghp_token:x@github.com/evil/repo", "https://@github.com/evil/repo",
    "ssh://git@github.com/evil/repo", "ssh://github.com:22/evil/repo.git", "git://github.com:9418/evil/repo",
    "git@github.com:evil/repo.git", "https://github.com/evil/repo#readme",
)  # fmt: skip


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_spellings_of_one_repository_are_one(spelled: str) -> None:
    assert canonical_url(spelled) == HOME


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://example.org:8443/a/b", "https://example.org:8443/a/b"),
        ("http://example.org:443/a", "https://example.org/a"),
        ("ssh://git@ssh.example.org:443/a", "https://ssh.example.org/a"),
        ("https://[::FFFF:140.82.121.3]/a", "https://140.82.121.3/a"),
        ("https://[::ffff:8c52:7903]:8443/a", "https://140.82.121.3:8443/a"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("https://b\u00fccher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://XN--Bcher-KVA.example/a", "https://xn--bcher-kva.example/a"),
        ("https://[2606:50C0:0::153]:443/a", "https://[2606:50c0::153]/a"),
        ("ssh://git@[::1]:2222/a", "https://[::1]:2222/a"),
        ("https://example.org/b\u00fccher/a%20b", "https://example.org/b%C3%BCcher/a%20b"),
        ("https://example.org/b%c3%bccher/a b", "https://example.org/b%C3%BCcher/a%20b"),
        ("https://example.org/a%ff", "https://example.org/a%FF"),
        ("https://example.org/a+b/~me/x@y", "https://example.org/a+b/~me/x@y"),
        ("https://example.org/a%2Fb", "https://example.org/a%2Fb"),
        ("https://example.org/%2565", "https://example.org/%2565"),
        ("https://example.org/a/.git", "https://example.org/a"),
        ("https://example.org/", "https://example.org"),
        ("https://www.org/a", "https://www.org/a"),
        ("https://www/a", "https://www/a"),
        ("https://data.example/dataset.xhtml?persistentId=doi:10.5/X", "https://data.example/dataset.xhtml?persistentId=doi:10.5/X"),
        ("file:///srv/../srv/git/a.git", "file:///srv/git/a"),
        ("10.5281/zenodo.3242074", "10.5281/zenodo.3242074"),
        ("doi:10.5281/zenodo.3242074", "doi:10.5281/zenodo.3242074"),
        ("https://[::1/x", "https://[::1/x"),
        ("https://example.org:x/a", "https://example.org:x/a"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_differs_stays_apart_and_what_is_no_url_stays_as_it_is(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical  # it is read back from the hub, and counted by


OTHER_REPOSITORIES = (
    "https://example.org/a%2Fb/%2565", "https://www.www.a.example/x", "ssh://example.org:443/a",
    "http://example.org:443/a", "https://example.org/a/..git", "https://example.org/a/...git.git",
)  # fmt: skip


@pytest.mark.parametrize("url", [*SPELLINGS, *OTHER_REPOSITORIES])
def test_a_canonical_url_stays_as_it_is(url: str) -> None:
    for ignores_case in (False, True):
        once = canonical_url(url, ignores_case=ignores_case)
        assert canonical_url(once, ignores_case=ignores_case) == once
        assert canonical_url(once) == once


def test_case_counts_where_the_forge_minds_it() -> None:
    assert canonical_url("https://example.org/A.git") != canonical_url("https://example.org/a")
    assert canonical_url("https://github.com/Evil/%52epo.GIT", ignores_case=True) == HOME
    umlaut = canonical_url("https://example.org/\u00c4", ignores_case=True)
    assert umlaut == "https://example.org/%C3%84"  # the case of ASCII letters alone is ignored


def test_it_is_counted_where_it_was_found() -> None:
    moved = "https://example.org/moved"
    there = REPO.updated(repo_url=moved, reached_url="https://github.com/Evil/Repo", ignores_case=True)
    assert repository_of(there) == HOME
    assert repository_of(there.updated(reached_url=None)) == moved


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://GitHub.com:443/%6Fur/./a%c3%bc//b.git/", "https://github.com/our/a%C3%BC/b.git/"),
        ("http://www.github.com./our", "http://www.github.com/our"),
        ("http://github.com:443/our", "http://github.com:443/our"),
        ("https://github.com/our/repo", "https://github.com/our/repo"),
    ],
)
def test_a_plain_spelling_keeps_what_may_make_another_repository(url: str, plain: str) -> None:
    assert plain_url(url) == plain
