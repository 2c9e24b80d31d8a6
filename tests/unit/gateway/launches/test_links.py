"""Launch links: made from the form, and read back."""

import pytest

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.gateway.launches.launch_form import LaunchForm
from services.gateway.launches.links import Link, raw_spec, without_login
from tests.support.sample_providers import BY_ID, TYPES

OWN = "http://127.0.0.1:8585"


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"repository": "org/repo"}, "v2/gh/org/repo/HEAD"),
        ({"repository": "https://github.com/org/repo/", "ref": "a/b"}, "v2/gh/org/repo/a/b"),
        ({"repository": "org/repo", "path": "test.py"}, "v2/gh/org/repo/HEAD?urlpath=%2Fdoc%2Ftree%2Ftest.py"),
        ({"repository": "org/repo", "path": "/lab?x=1", "kind": "url"}, "v2/gh/org/repo/HEAD?urlpath=%2Flab%3Fx%3D1"),
        ({"repository": "org/repo/tree/v1"}, "v2/gh/org/repo/v1"),
        (
            {"repository": "https://github.com/org/repo/blob/main/b.ipynb"},
            "v2/gh/org/repo/main?urlpath=%2Fdoc%2Ftree%2Fb.ipynb",
        ),
        ({"repository": "https://github.com/org/repo/tree/v1", "ref": "v2"}, "v2/gh/org/repo/v2"),
        (
            {"repository": "https://github.com/org/repo/blob/v1/b.ipynb", "ref": "v2"},
            "v2/gh/org/repo/v2?urlpath=%2Fdoc%2Ftree%2Fb.ipynb",
        ),
        (
            {"repository": "https://github.com/org/repo/blob/v1/b.ipynb", "path": "c.ipynb"},
            "v2/gh/org/repo/v1?urlpath=%2Fdoc%2Ftree%2Fc.ipynb",
        ),
        (
            {"repository": "https://github.com/org/repo/tree/a/b/c", "ref": "a/b"},
            "v2/gh/org/repo/a/b?urlpath=%2Flab%2Ftree%2Fc",
        ),
        ({"repository": "https://github.com/org/repo/tree/a/b/c", "ref": "d"}, "v2/gh/org/repo/d"),
        (
            {"provider": "git", "repository": "https://x.y/z.git", "ref": "v 1"},
            "v2/git/https%3A%2F%2Fx.y%2Fz.git/v%201",
        ),
        ({"provider": "zenodo", "repository": "10.5281/zenodo.3242074"}, "v2/zenodo/10.5281/zenodo.3242074"),
    ],
)
def test_the_form_makes_the_links_of_binderhub(fields: dict[str, str], url: str) -> None:
    reading = LaunchForm.of(fields, TYPES).reading(TYPES)
    assert [candidate.link.url("") for candidate in reading.candidates] == [url]


@pytest.mark.parametrize("repository", ["", "   ", "repo", "/"])
def test_input_that_is_not_a_repository_makes_no_link(repository: str) -> None:
    with pytest.raises(BinderyError) as raised:
        LaunchForm.of({"repository": repository}, TYPES).reading(TYPES)
    assert raised.value.code == "bad_spec"


def test_badges_carry_the_link() -> None:
    link = Link(Spec(provider="gh", spec="o/r/HEAD"))
    assert link.markdown(f"{OWN}/") == f"[![Launch on Bindery]({OWN}/badge_logo.svg)]({OWN}/v2/gh/o/r/HEAD)"
    assert link.rest(f"{OWN}/").splitlines()[:2] == [
        f".. image:: {OWN}/badge_logo.svg",
        f"   :target: {OWN}/v2/gh/o/r/HEAD",
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "parts"),
    [
        ("gh", "o/r/a/b", ("o/r", "a/b")),
        ("git", "https%3A%2F%2Fx.y%2Fz/v%201", ("https://x.y/z", "v 1")),
        ("zenodo", "10.5281/zenodo.1", ("10.5281/zenodo.1", "")),
    ],
)
def test_a_link_is_read_back(kind: str, spec: str, parts: tuple[str, str]) -> None:
    assert BY_ID[kind].split(spec) == parts


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        (b"/v2/git/https%3A%2F%2Fx.y%2Fz/HEAD/", "https%3A%2F%2Fx.y%2Fz/HEAD"),
        (b"/v2/gh/o/r/\xc3\xbc", "o/r/%C3%BC"),
        (b"/v2/gh/o/r/a%20b?x=1", "o/r/a%20b"),
        (b"/v2/gh", ""),
    ],
)
def test_the_spec_is_what_the_address_says_undecoded(raw: bytes, spec: str) -> None:
    assert raw_spec(raw) == spec


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ("https%3A%2F%2Fghp_x%40x.example%2Fa/HEAD", "https%3A%2F%2F***%40x.example%2Fa/HEAD"),
        ("https%3A//ann:hunter2@x.example/a/HEAD", "https%3A//***@x.example/a/HEAD"),
        ("https:/ghp_x@x.example/a/HEAD", "https:/***@x.example/a/HEAD"),
        ("https%3A%2F%2Fx.example%2Fa/b%40c", "https%3A%2F%2Fx.example%2Fa/b%40c"),
        ("ann/notes/a@b", "ann/notes/a@b"),
    ],
)
def test_no_record_keeps_what_may_be_a_token_of_a_link(spec: str, kept: str) -> None:
    assert without_login(Spec(provider="git", spec=spec)).spec == kept
