"""Links whose URL was encoded in part, decoded on the way, or had its slashes merged."""

import pytest

from services.gateway.launches.addresses.launch_links import is_broken, mended_spec
from services.gateway.launches.repository_types import sites_of
from tests.support.sample_providers import BY_ID, TYPES

SITES = sites_of(TYPES)
WHOLE = "https%3A%2F%2Fx.example%2Fann%2Fnotes.git"
WITH_PORT = "http%3A%2F%2F127.0.0.1%3A8765%2Fann%2Fnotes.git"


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        # encoded in part
        ("https%3A//x.example/ann/notes.git/HEAD", f"{WHOLE}/HEAD"),
        ("https%3a//x.example/ann/notes.git/HEAD", f"{WHOLE}/HEAD"),
        ("http%3A//127.0.0.1:8765/ann/notes.git/HEAD", f"{WITH_PORT}/HEAD"),
        ("https%3A%2F%2Fx.example/ann/notes.git/wip/plots", f"{WHOLE}/wip/plots"),
        ("https%3A//x.example/ann/notes.git/wip%2Fplots", f"{WHOLE}/wip/plots"),
        ("https%3A//x.example/ann/notes.git/fix%23", f"{WHOLE}/fix%23"),
        ("https%3A//x.example/ann/My%2520Notes.git/HEAD", "https%3A%2F%2Fx.example%2Fann%2FMy%2520Notes.git/HEAD"),
        # decoded on the way
        ("https://x.example/ann/notes.git/HEAD", f"{WHOLE}/HEAD"),
        ("http://127.0.0.1:8765/ann/notes.git/HEAD", f"{WITH_PORT}/HEAD"),
        ("https://x.example/ann/My%20Notes.git/HEAD", "https%3A%2F%2Fx.example%2Fann%2FMy%2520Notes.git/HEAD"),
        # decoded, and the slashes merged
        ("https:/x.example/ann/notes.git/HEAD", f"{WHOLE}/HEAD"),
        ("http:/127.0.0.1:8765/ann/notes.git/HEAD", f"{WITH_PORT}/HEAD"),
        ("https%3A/x.example/ann/notes.git/HEAD", f"{WHOLE}/HEAD"),
        ("https%3A%2Fx.example%2Fann%2Fnotes.git/HEAD", f"{WHOLE}/HEAD"),
        # encoded once too often
        ("https%253A%252F%252Fx.example%252Fann%252Fnotes.git/HEAD", f"{WHOLE}/HEAD"),
        # without `.git`: the last part is the ref, except where a site's repositories have a number of parts
        ("https%3A//x.example/ann/notes/HEAD", "https%3A%2F%2Fx.example%2Fann%2Fnotes/HEAD"),
        ("https%3A//github.com/ann/notes/wip/plots", "https%3A%2F%2Fgithub.com%2Fann%2Fnotes/wip/plots"),
        ("https:/www.github.com/ann/notes/HEAD", "https%3A%2F%2Fwww.github.com%2Fann%2Fnotes/HEAD"),
        ("https%3A//gitlab.com/team/unit/notes/HEAD", "https%3A%2F%2Fgitlab.com%2Fteam%2Funit%2Fnotes/HEAD"),
        # without a ref
        ("https%3A//x.example/ann/notes.git", f"{WHOLE}/HEAD"),
        ("https%3A//github.com/ann/notes", "https%3A%2F%2Fgithub.com%2Fann%2Fnotes/HEAD"),
    ],
)
def test_the_link_that_was_meant_is_found(broken: str, whole: str) -> None:
    assert mended_spec(BY_ID["git"], broken, SITES) == whole
    assert not is_broken(whole)


@pytest.mark.parametrize(
    "spec",
    [
        f"{WHOLE}/HEAD", f"{WHOLE}/wip/plots", "https%3A%2F%2Fx.example%2Fann%2Fnotes/main", WHOLE,
        "https%3a%2f%2fx.example%2fann/main", "https%3A%2F%2Fx.example/HEAD", "https%3A%2F%2Fx.example%2F/wip/plots",
        "git%40x.example%3Aann%2Fnotes/HEAD", "ann/notes/HEAD", "https%3A", "https:", "", "HEAD", "https%3A//x.example",
        f"{WHOLE}/a.git/b",
    ],
)  # fmt: skip
def test_a_whole_link_and_what_is_no_url_stay_as_they_are(spec: str) -> None:
    assert mended_spec(BY_ID["git"], spec, SITES) is None


def test_a_type_whose_repositories_are_no_urls_has_no_such_links() -> None:
    assert mended_spec(BY_ID["gh"], "https://github.com/ann/notes/HEAD", SITES) is None
