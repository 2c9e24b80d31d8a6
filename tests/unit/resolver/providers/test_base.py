"""What can be the name of a branch, tag or commit, for every provider."""

import pytest

from services.common.models.errors import BinderyError
from services.resolver.providers.base import MAX_REF_LENGTH, checked_ref

SPEC = "org/repo/ref"


@pytest.mark.parametrize(
    "ref",
    ["HEAD", "main", "feature/of/mine", "v1.0", "a@b", "täglich", "x" * MAX_REF_LENGTH, "fix#12", "100%", "a+b&c=d;e",
      "\"quoted\"", "it's", "{x}", "<y>", "a|b", "$HOME", "`x`", "!", "(new)", "refs/heads/-x", "no\u00a0break",
      "\U0001f469\u200d\U0001f4bb", "\u202e", "\u0085", "]", "caf\udce9"],
)  # fmt: skip
def test_a_ref_of_git_is_returned_unchanged(ref: str) -> None:
    assert checked_ref(ref, SPEC) == ref


@pytest.mark.parametrize(
    "ref",
    [
        "a..b",
        "..",
        "a b",
        "a\\b",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a/./b",
        ".",
        "/a",
        "a/",
        "a//b",
        "x" * (MAX_REF_LENGTH + 1),
    ],
)
def test_a_text_that_git_or_a_url_would_read_otherwise_is_refused(ref: str) -> None:
    with pytest.raises(BinderyError, match="can't be the name of a branch, tag or commit") as raised:
        checked_ref(ref, SPEC)
    assert raised.value.code == "bad_spec"
    assert len(raised.value.detail) < 500


@pytest.mark.parametrize("ref", ["-u", "--upload-pack=x", "-"])
def test_an_option_is_not_a_ref(ref: str) -> None:
    with pytest.raises(BinderyError, match=r"can't begin with a dash.* is refs/heads/") as raised:
        checked_ref(ref, SPEC)
    assert raised.value.code == "bad_spec"


@pytest.mark.parametrize("ref", ["-u", "--upload-pack=x", "-"])
def test_a_caller_who_runs_no_program_with_it_takes_a_dash(ref: str) -> None:
    assert checked_ref(ref, SPEC, is_option_allowed=True) == ref


@pytest.mark.parametrize("spec", ["org/repo", "org/repo/", "org/repo//"])
def test_a_missing_ref_comes_with_the_link_that_was_meant(spec: str) -> None:
    with pytest.raises(BinderyError) as raised:
        checked_ref("", spec)
    assert raised.value.detail == "The ref is missing. Did you mean org/repo/HEAD?"
