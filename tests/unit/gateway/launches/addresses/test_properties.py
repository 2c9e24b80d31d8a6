"""What holds for any text: no other error than the documented ones, and a link is read back as itself."""

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.gateway.launches.addresses.launch_links import is_broken, mended_spec
from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.addresses.reading import Reading
from services.gateway.launches.links import Link
from services.gateway.launches.repository_types import sites_of
from tests.support.sample_providers import BY_ID, TYPES

pytestmark = pytest.mark.timeout(60)
SAME_EACH_TIME = settings(max_examples=100, deadline=None, derandomize=True, database=None)
"""To look for what these don't find: `derandomize=False` and more examples."""
BASE = "https://bindery.example/"
SITES = sites_of(TYPES)

PARTS = st.sampled_from(
    ["https:", "https%3A", "git@", "github.com", "gitlab.com", "gist.github.com", "x.example", "mybinder.org", "/",
     "//", "%2F", ":", "@", "?", "#", ".git", "v2", "gh", "git", "zenodo", "tree", "blob", "-", "pull", "12", "refs",
     "heads", "src", "branch", "[", "]", "(", "10.5281", "doi:", "%", "%00", " ", "\n", "\x00", "\u202e", "ü", "."]
)  # fmt: skip
TEXTS = st.text() | st.lists(PARTS | st.text(max_size=3)).map("".join) | st.lists(PARTS, min_size=2).map("/".join)
NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=20)
PATHS = st.text(st.characters(codec="utf-8"), max_size=30)

REF_PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters=" ~^:?*[\\/\x7f", exclude_categories=["Cc"]), min_size=1, max_size=9
)


def _is_name_of_a_ref(text: str) -> bool:
    """Return whether `git check-ref-format` allows it; a dash at the beginning is for full names alone."""
    parts = text.split("/")
    return not (
        ".." in text
        or "@{" in text
        or text.endswith(".")
        or text == "@"
        or text.startswith("-")
        or any(part.startswith(".") or part.endswith(".lock") for part in parts)
    )


REFS = st.lists(REF_PARTS, min_size=1, max_size=4).map("/".join).filter(_is_name_of_a_ref)


def _read(text: str, provider: str) -> Reading | None:
    try:
        return read_address(text, TYPES, provider)
    except BinderyError as error:
        refusal = error
    assert refusal.code in {"bad_spec", "unknown_provider"}
    assert refusal.detail
    return None


@SAME_EACH_TIME
@given(TEXTS, st.sampled_from(["", "gh", "git", "zenodo"]))
@example("https://[", "gh")
@example("https://x\u2100.example/a", "git")
def test_any_text_is_read_or_refused(text: str, provider: str) -> None:
    reading = _read(text, provider)
    if reading is None:
        return
    assert reading.candidates
    for candidate in reading.candidates:
        assert reading.repository_type.accepts(candidate.link.spec.spec)
        again = _read(candidate.link.url(BASE), provider)
        assert again
        assert [other.link for other in again.candidates] == [candidate.link]


@SAME_EACH_TIME
@given(NAMES, NAMES, REFS, PATHS)
def test_a_link_to_github_is_read_as_itself(owner: str, name: str, ref: str, path: str) -> None:
    link = Link(Spec(provider="gh", spec=f"{owner}/{name}/{quote(ref, safe='/')}"), path)
    (candidate,) = read_address(link.url(BASE), TYPES).candidates
    assert (candidate.link, candidate.ref) == (link, ref)


@SAME_EACH_TIME
@given(st.lists(NAMES, min_size=1, max_size=4), REFS, PATHS)
def test_a_link_by_git_is_read_as_itself(names: list[str], ref: str, path: str) -> None:
    url = f"https://x.example/{'/'.join(names)}"
    link = Link(Spec(provider="git", spec=f"{quote(url, safe='')}/{quote(ref, safe='/')}"), path)
    (candidate,) = read_address(link.url(BASE), TYPES, "gh").candidates
    assert (candidate.link, candidate.ref) == (link, ref)


@SAME_EACH_TIME
@given(NAMES, NAMES, REFS)
def test_a_branchs_page_has_the_branch_among_its_readings(owner: str, name: str, ref: str) -> None:
    repository = f"https://github.com/x{owner}/{name}"
    refs = [candidate.ref for candidate in read_address(f"{repository}/tree/{quote(ref)}?tab=x#y", TYPES).candidates]
    is_clear = ref.startswith("HEAD/")
    assert (ref in refs) is not is_clear


@SAME_EACH_TIME
@given(st.lists(NAMES, min_size=1, max_size=4), REFS)
def test_a_broken_link_is_mended_to_what_it_was(names: list[str], ref: str) -> None:
    url = f"https://x.example/{'/'.join(names)}.git"
    whole = f"{quote(url, safe='')}/{quote(ref, safe='/')}"
    assert mended_spec(BY_ID["git"], whole, SITES) is None
    for broken in (
        f"{quote(url, safe='/')}/{quote(ref, safe='/')}",
        f"{url}/{quote(ref, safe='/')}",
        f"{url.replace('//', '/')}/{quote(ref, safe='/')}",
        f"{quote(url.replace('//', '/'), safe='')}/{quote(ref, safe='/')}",
    ):
        assert mended_spec(BY_ID["git"], broken, SITES) == whole


@SAME_EACH_TIME
@given(st.lists(PARTS | st.text(st.characters(codec="utf-8"), max_size=3)).map("".join).map(quote) | TEXTS)
def test_mending_ends(spec: str) -> None:
    seen = 0
    mended: str | None = spec
    while mended is not None:
        assert seen < 3 or is_broken(mended)
        mended = mended_spec(BY_ID["git"], mended, SITES)
        seen += 1
        assert seen < 50
