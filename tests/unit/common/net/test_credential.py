"""A credential goes to the addresses in its scope, and to no other."""

import pytest

from services.common.net.credential import ScopedCredential


def credential(scope: str) -> ScopedCredential:
    return ScopedCredential(scope=scope, username="ann", password="s3cret-word")


@pytest.mark.parametrize(
    "scope", ["https://git.test/org/repo", "https://git.test/org/repo.git", "https://GIT.test:443/org/repo/"]
)
@pytest.mark.parametrize("path", ["", "/", ".git", ".git/info/refs?service=git-upload-pack", "/info/lfs/objects/batch"])
def test_a_repositorys_credential_goes_with_its_address_in_each_spelling(scope: str, path: str) -> None:
    headers = credential(scope).headers_for(f"https://git.test/org/repo{path}")
    assert headers == {"authorization": "Basic YW5uOnMzY3JldC13b3Jk"}


@pytest.mark.parametrize(
    "url",
    [
        "https://git.test/org/repo2", "https://git.test/org/repo.github", "https://git.test/org",
        "https://git.test/", "http://git.test/org/repo", "https://git.test:444/org/repo",
        "https://git.test.evil.example/org/repo", "https://evil.example/git.test/org/repo",
    ],
)  # fmt: skip
def test_it_goes_nowhere_else(url: str) -> None:
    assert credential("https://git.test/org/repo").headers_for(url) == {}


def test_a_hosts_credential_goes_with_all_that_is_there() -> None:
    assert credential("https://git.test").covers("https://git.test/org/repo/info/refs")
    assert not credential("https://git.test").covers("https://other.test/org/repo")


def test_git_gets_it_for_the_same_addresses() -> None:
    assert dict(credential("https://git.test/org/repo").git_config) == {
        "http.https://git.test/org/repo.extraHeader": "Authorization: Basic YW5uOnMzY3JldC13b3Jk",
        "http.https://git.test/org/repo.git.extraHeader": "Authorization: Basic YW5uOnMzY3JldC13b3Jk",
    }


def test_no_text_of_it_shows_the_password() -> None:
    assert "s3cret" not in repr(credential("https://git.test"))
    assert set(credential("https://git.test").secrets) == {"s3cret-word", "YW5uOnMzY3JldC13b3Jk"}
