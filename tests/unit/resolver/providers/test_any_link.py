"""What holds for the links of all providers, whatever is in them: the documented errors alone, and refs as they are."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.resolver.providers import load_providers
from services.resolver.providers.base import checked_ref
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

pytestmark = pytest.mark.timeout(60)
SAME_EACH_TIME = settings(max_examples=60, deadline=None, derandomize=True, database=None)
"""To look for what these don't find: `derandomize=False` and more examples."""
PROVIDERS = load_providers(settings_for(ResolverSettings))

PARTS = st.sampled_from(
    ["ann", "notes", "HEAD", "main", "8c2f6a1d0b9e", "/", "//", "%2F", "%252F", ".git", "..", ".", "-", "~", ":", "@",
     "?", "#", "%", "%00", "%ff", "%0A", " ", "\n", "\x00", "ü", "\u202e", "https://", "https%3A%2F%2F",
     "x.example", "x.example:1", "[::1]", "10.5281", "refs", "heads"]
)  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
TEXTS = TEXT | st.lists(PARTS | TEXT).map("".join) | st.lists(PARTS, min_size=2).map("/".join)
REPOSITORIES = {
    "gh": "ann/notes",
    "gist": "ann/8c2f6a1d0b9e",
    "git": "https%3A%2F%2Fx.example%2Fann%2Fnotes",
    "gl": "ann%2Fnotes",
    "gitea": "codeberg.org/ann/notes",
    "bb": "ann/notes",
}
"""For each provider with refs, a repository as links name it."""


def _is_ref(text: str) -> bool:
    try:
        return bool(checked_ref(text, text, is_option_allowed=True))
    except BinderyError:
        return False


REFS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(_is_ref)


@pytest.mark.parametrize("prefix", PROVIDERS)
@SAME_EACH_TIME
@given(text=TEXTS)
def test_any_text_is_a_link_or_a_bad_one(prefix: str, text: str) -> None:
    problems = set()
    for ask in (PROVIDERS[prefix].also_known_as, PROVIDERS[prefix].allowed_as):
        try:
            ask(text)
        except BinderyError as error:
            problems.add((error.code, len(error.detail) < 2000))
    assert problems <= {("bad_spec", True)}


@pytest.mark.parametrize("prefix", PROVIDERS)
@given(text=TEXTS)
@SAME_EACH_TIME
def test_any_text_is_the_address_of_a_repository_or_not(prefix: str, text: str) -> None:
    for url in (text, f"https://{text}", *(f"{site.url}/{text}" for site in PROVIDERS[prefix].sites)):
        assert PROVIDERS[prefix].repository_of(url) != ""


@pytest.mark.parametrize(
    "prefix", [prefix for prefix in PROVIDERS if PROVIDERS[prefix].display_config["ref"]["enabled"]]
)
@SAME_EACH_TIME
@given(ref=REFS)
def test_a_ref_is_what_it_was_before_it_was_encoded(prefix: str, ref: str) -> None:
    repository = REPOSITORIES[prefix]
    links = PROVIDERS[prefix].also_known_as(f"{repository}/{quote(ref, safe='/')}")
    assert Spec(provider=prefix, spec=f"{repository}/{ref}") in links


DOIS = st.from_regex(r"10\.[0-9]{4,9}/[A-Za-z0-9._;()/:%+-]{1,30}", fullmatch=True).filter(
    lambda doi: not {"", ".", ".."} & set(doi.split("/"))
)
HASHES = st.text("0123456789abcdef", min_size=40, max_size=40)
NAMES = st.from_regex(r"[a-z0-9_-]{2,40}", fullmatch=True)
IDENTIFIERS = {
    "zenodo": DOIS,
    "figshare": DOIS,
    "dataverse": DOIS,
    "doi": DOIS,
    "hydroshare": HASHES.map(lambda digits: digits[:32]),
    "ckan": NAMES.map(lambda name: f"https://x.example/dataset/{name}"),
    "swh": st.tuples(st.sampled_from(["rev", "dir", "rel", "snp"]), HASHES).map(
        lambda parts: "swh:1:" + ":".join(parts)
    ),
}
"""For each provider of archives, what names a deposit."""


@pytest.mark.parametrize("prefix", IDENTIFIERS)
@SAME_EACH_TIME
@given(data=st.data())
def test_an_identifier_is_what_it_was_before_it_was_encoded(prefix: str, data: st.DataObject) -> None:
    identifier = data.draw(IDENTIFIERS[prefix])
    links = PROVIDERS[prefix].also_known_as(quote(identifier, safe=""))
    own = [link.spec for link in links if link.provider == prefix]
    assert identifier in {unquote(spec) for spec in own}
    assert all(set(PROVIDERS[prefix].also_known_as(spec)) == set(links) for spec in own)
