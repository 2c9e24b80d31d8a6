"""Provider `git` without a server: how a link is read, and the other links to its repository."""

import re
from urllib.parse import quote

import pytest

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.resolver.providers.git import Git
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def provider() -> Git:
    """The provider of a resolver whose GitHub is github.com."""
    return Git(settings_for(ResolverSettings))


def links(specs: tuple[Spec, ...]) -> set[str]:
    return {str(spec) for spec in specs}


def by_git(url: str, ref: str = "main") -> str:
    return f"git/{quote(url, safe='')}/{ref}"


def test_a_link_has_every_spelling_of_its_url(provider: Git) -> None:
    specs = provider.also_known_as(f"{quote('HTTPS://Example.org/a/b.git/', safe='')}/main")
    assert links(specs) == {
        by_git("HTTPS://Example.org/a/b.git/"),
        by_git("https://example.org/a/b.git/"),
        by_git("https://example.org/a/b"),
        by_git("https://example.org/a/b.git"),
        by_git("http://example.org/a/b"),
        by_git("http://example.org/a/b.git"),
    }


def test_a_repository_on_github_has_a_gh_link_too(provider: Git) -> None:
    specs = provider.also_known_as(f"{quote('https://www.github.com/Org/Repo.git', safe='')}/feature/x")
    assert "gh/Org/Repo/feature/x" in links(specs)


def test_an_allowance_is_for_the_plain_spelling_or_the_gh_link(provider: Git) -> None:
    link = f"{quote('https://GitHub.com:443/org/repo', safe='')}/main"
    assert links(provider.allowed_as(link)) == {
        f"git/{link}",
        by_git("https://github.com/org/repo"),
        "gh/org/repo/main",
    }
    assert links(provider.allowed_as(f"{quote('https://example.org/a', safe='')}/main")) == {
        by_git("https://example.org/a")
    }


def test_a_quoted_ref_is_the_same_ref(provider: Git) -> None:
    url = quote("https://example.org/a", safe="")
    assert provider.also_known_as(f"{url}/feature%2Fx") == provider.also_known_as(f"{url}/feature/x")


def test_bytes_of_a_ref_that_are_not_utf_8_stay_encoded_in_links(provider: Git) -> None:
    specs = provider.also_known_as(f"{quote('https://example.org/a', safe='')}/caf%e9/gr%C3%B6%C3%9Fe")
    assert by_git("https://example.org/a", "caf%E9/größe") in links(specs)


async def test_a_full_sha_is_resolved_without_a_request(provider: Git) -> None:
    repo = await provider.resolve(f"{quote('https://192.88.98.1/a', safe='')}/{SHA.upper()}")
    assert (repo.ref, repo.immutable_spec, repo.ignores_case, repo.reached_url) == (SHA, True, False, None)
    assert repo.resolved_spec == f"https%3A%2F%2F192.88.98.1%2Fa/{SHA}"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("https%3A%2F%2Fexample.org%2Fa", "bad_spec"),
        ("https%3A%2F%2Fexample.org%2Fa/", "bad_spec"),
        ("https%3A%2F%2Fexample.org%2Fa/a%7Fb", "bad_spec"),
        ("ftp%3A%2F%2Fexample.org%2Fa/main", "bad_spec"),
        (f"http%3A%2F%2F10.0.0.1%2Fa/{SHA}", "address_not_allowed"),
    ],
)
async def test_a_link_that_can_not_be_followed_is_refused(provider: Git, spec: str, code: str) -> None:
    with pytest.raises(BinderyError) as raised:
        await provider.resolve(spec)
    assert raised.value.code == code


def test_a_link_without_a_ref_is_shown_as_it_was_typed_unless_it_holds_a_secret(provider: Git) -> None:
    with pytest.raises(BinderyError, match=r'provided: "https%3A%2F%2Fexample\.org%2Fa"'):
        provider.also_known_as("https%3A%2F%2Fexample.org%2Fa")
    with pytest.raises(BinderyError, match=r'provided: "https://me:\[secret\]@example.org/a"'):
        provider.also_known_as("https%3A%2F%2Fme%3Ahunter2%40example.org%2Fa")


@pytest.mark.parametrize(
    "spec", ["https%3A//example.org/a/main", "https:/example.org/a/main", "https://example.org/a/main"]
)
def test_a_url_that_is_not_encoded_as_a_whole_is_said(provider: Git, spec: str) -> None:
    with pytest.raises(BinderyError, match="not percent-encoded as a whole") as raised:
        provider.also_known_as(spec)
    assert raised.value.code == "bad_spec"


def test_every_row_has_pages_of_which_each_group_is_known(provider: Git) -> None:
    for site in provider.sites:
        for page in site.pages:
            groups = set(re.compile(page.path).groupindex) | set(re.compile(page.query).groupindex)
            assert groups <= {"ref", "undivided", "path", "number"}, (site.name, page.path)
            assert ("number" in groups) == bool(page.ref), (site.name, page.path)
            assert "path" not in groups or page.opens != "nothing", (site.name, page.path)
