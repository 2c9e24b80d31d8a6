"""A live rule's pattern compiles, and no link makes it take long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.models.errors import BinderyError
from services.resolver.policy.patterns import LONGEST_TEXT, PATTERN_MAX_LENGTH, check_pattern, compiled


@pytest.mark.parametrize(
    "pattern",
    [
        "spammer/.*", "^EVIL/repo/", "[^/]+/[^/]+/main$", r"https%3A%2F%2Fgithub\.com%2F.*", "(?!our/).*", "a{2,5}/x",
        "(?:foo|bar)/(main|HEAD)$", r"10\.5281/zenodo\.\d+", "([^/]+/)*secret", ".*miner.*", ".*/.*", "a++/b",
    ],
)  # fmt: skip
def test_usual_patterns_are_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "The pattern is empty"),
        ("a" * (PATTERN_MAX_LENGTH + 1), "longer than 500 characters"),
        ("(", "is not a regular expression: missing )"),
        ("a{2,1}", "is not a regular expression"),
        ("(a+)+$", "in too many ways"),
        ("(a|a)*b", "in too many ways"),
        ("(a?){30}a{30}$", "in too many ways"),
        ("a?" * 30 + "a" * 30, "in too many ways"),
        (".*a.*b.*c", "in too many ways"),
        (".*.*a*b", "in too many ways"),
        ("(?=(a+)+b)", "in too many ways"),
        (r"(a*)(b*)\1\2c", "in too many ways"),
        ("((a{1,50}){1,50}){1,50}b", "in too many ways"),
    ],
)
def test_a_pattern_that_can_not_hold_is_refused_with_a_sentence(pattern: str, says: str) -> None:
    with pytest.raises(BinderyError) as raised:
        check_pattern(pattern)
    assert raised.value.code == "bad_request"
    assert says in raised.value.detail


PIECES = st.sampled_from(
    ["a", "b", "/", ".", ".*", "a*", "a+", "a?", "[^/]+", "[ab]*", "(a|b)", "(a|ab)", "(a+)+", "(a*)*", "(ab?)*", "$"]
)
TEXTS = [(letters * LONGEST_TEXT)[: LONGEST_TEXT - 1] + "!" for letters in ("a", "ab", "a/")]


@settings(deadline=None, max_examples=40)
@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
def test_what_is_taken_matches_the_longest_links(pattern: str) -> None:
    """One that tried all of many ways would not end before the test is ended."""
    try:
        check_pattern(pattern)
    except BinderyError:
        return
    expression = compiled(pattern)
    for text in TEXTS:
        expression.match(text)
