"""The document of live rules: adding, removing, and reading what another resolver wrote."""

import pytest
from pydantic import ValidationError

from services.common.models.errors import BinderyError
from services.common.models.policy import NewRule, PolicyDocument, RuleKind
from services.common.service.clock import clock
from services.resolver.policy.document import (
    EMPTY,
    Change,
    Unreadable,
    parse,
    rule_id,
    text_of,
    with_rule,
    without_rule,
)

BAN = NewRule(kind=RuleKind.BAN, provider="gh", pattern="spammer/.*", reason="It mines coins.", by="ann")


def added(document: PolicyDocument, new: NewRule) -> Change:
    change = with_rule(document, new, rules_max=10)
    assert change
    return change


def test_a_rule_is_added_with_who_when_and_why() -> None:
    before = clock.now()
    change = added(EMPTY, BAN)
    (rule,) = change.document.rules
    assert (change.document.version, rule.pattern, rule.created_by) == (1, "spammer/.*", "ann")
    assert rule.created_at >= before
    assert (change.entry.action, change.entry.by, change.entry.reason) == ("added", "ann", "It mines coins.")
    assert change.entry.rule == rule


def test_the_same_rule_again_changes_nothing_and_another_reason_replaces_it() -> None:
    document = added(EMPTY, BAN).document
    assert with_rule(document, BAN.updated(by="bob"), rules_max=10) is None
    change = added(document, BAN.updated(reason="It scans ports."))
    assert [rule.reason for rule in change.document.rules] == ["It scans ports."]
    assert (change.document.version, change.entry.action) == (2, "replaced")


def test_a_rule_is_removed_by_its_id() -> None:
    document = added(EMPTY, BAN).document
    change = without_rule(document, document.rules[0].id, by="bob", reason="It was cleaned up.")
    assert (change.document.version, change.document.rules) == (2, ())
    assert (change.entry.action, change.entry.by, change.entry.rule) == ("removed", "bob", document.rules[0])
    with pytest.raises(BinderyError, match="There is no live rule"):
        without_rule(change.document, document.rules[0].id, by="", reason="")


def test_an_id_follows_from_what_the_rule_is_about() -> None:
    ids = {rule_id(kind, prefix, "a") for kind in RuleKind for prefix in ("*", "gh")}
    assert len(ids) == 2 * len(RuleKind)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pattern": "(a+)+$"}, "in too many ways"),
        ({"reason": "one\ntwo"}, "must be one line"),
        ({"kind": RuleKind.CONFIG, "config": {"note": "a" * 10_000}}, "longer than 10000 characters"),
        ({"expires_at": 1.0}, "expired already"),
        ({"kind": RuleKind.ALLOW, "end_servers": True}, "Only a ban ends servers"),
        ({"config": {"quota": 1}}, "and no other, has a config"),
        ({"kind": RuleKind.CONFIG}, "and no other, has a config"),
        ({"kind": RuleKind.CONFIG, "config": {"quota": -2}}, "The config can't hold: quota"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(BinderyError, match=says.replace("(", r"\(")):
        with_rule(EMPTY, BAN.updated(**change), rules_max=10)


def test_there_are_no_more_rules_than_a_setting_says() -> None:
    document = added(EMPTY, BAN).document
    with pytest.raises(BinderyError, match="no more are kept"):
        with_rule(document, BAN.updated(pattern="other/"), rules_max=1)
    assert with_rule(document, BAN.updated(reason="It scans ports."), rules_max=1)


def test_a_document_is_read_as_it_was_written() -> None:
    config = NewRule(kind=RuleKind.CONFIG, pattern="course/", config={"quota": 3, "node_pool": {"name": "big"}})
    document = added(added(EMPTY, BAN).document, config).document
    assert parse(text_of(document)) == document


GOOD = text_of(added(EMPTY, BAN).document)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", GOOD[2:], GOOD[:-5], f"2 {GOOD[2:]}", GOOD.replace('"v":1', '"v":2'), GOOD.replace("ban", "shun"),
        GOOD.replace("spammer/", "spammer(/"), "0 {}", GOOD.replace('"config":{}', '"config":{"quota":"x"}'),
    ],
)  # fmt: skip
def test_a_damaged_document_or_one_of_a_newer_release_is_none(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


def test_a_new_rule_has_a_kind_that_there_is() -> None:
    with pytest.raises(ValidationError):
        NewRule.model_validate({"kind": "shun", "pattern": "a"})
