"""`bindery ban`, `allow` and `policy`: what they send, and what an operator reads."""

import re
from typing import Any

import pytest

from bindery.cli import main
from bindery.cli.rules import operator_name
from tests.support.scripted_gateway import Gateway

POLICY = "/api/v1/admin/policy"
BAN: dict[str, Any] = {
    "id": "0123456789ab", "kind": "ban", "provider": "gh", "pattern": "evil/miner/", "reason": "It mines\x1b coins.",
    "config": {}, "expires_at": 90000.0, "created_by": "ann", "created_at": 0.0, "origin": "",
}  # fmt: skip
OF_SETTINGS = BAN | {
    "id": "spec_config", "kind": "config", "pattern": ".*", "config": {"quota": 3}, "origin": "settings", "reason": "",
    "expires_at": None, "created_by": "",
}  # fmt: skip
PRINTED = "0123456789ab      ban         gh/evil/miner/  until 1970-01-02 01:00:00Z  (It mines coins.)  by ann\n"


def run(gateway: Gateway, *arguments: str) -> int:
    return main([*arguments, "--gateway", gateway.url])


def test_a_ban_is_sent_with_its_reason_and_printed(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.replies[f"{POLICY}/rules"] = BAN
    assert run(gateway, "ban", "gh/evil/miner/", "--reason", "It mines coins.") == 0
    ((body, _),) = gateway.posts
    assert body == {
        "kind": "ban", "provider": "gh", "pattern": "evil/miner/", "reason": "It mines coins.", "expires_at": None,
        "end_servers": False, "by": operator_name(),
    }  # fmt: skip
    assert capsys.readouterr().out == PRINTED


@pytest.mark.parametrize("links", ["gh", "gh/", "/a", "https://bindery.example/v2/gh/evil/miner/HEAD"])
def test_what_is_no_pattern_is_refused(gateway: Gateway, capsys: pytest.CaptureFixture[str], links: str) -> None:
    assert run(gateway, "ban", links) == 1
    assert "is not <provider>/<pattern>" in capsys.readouterr().err
    assert gateway.posts == []


def test_a_rule_may_hold_for_a_time(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.replies[f"{POLICY}/rules"] = BAN
    for duration in ("30m", "12h", "7d"):
        assert run(gateway, "ban", "gh/evil/", "--for", duration) == 0
    half_hour, half_day, week = (body["expires_at"] for body, _ in gateway.posts)
    assert half_hour < half_day < week < half_day + 7 * 86400
    assert run(gateway, "ban", "gh/evil/", "--for", "soon") == 1
    assert "'soon' is not a time" in capsys.readouterr().err


def test_the_first_allowance_of_a_provider_has_to_be_confirmed(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.replies = {POLICY: {"version": 1, "rules": [BAN]}, f"{POLICY}/rules": BAN | {"kind": "allow"}}
    assert run(gateway, "allow", "gh/our-org/") == 1
    assert "all its other links are refused" in capsys.readouterr().err
    assert gateway.posts == []
    assert run(gateway, "allow", "gh/our-org/", "--only") == 0

    gateway.replies[POLICY] = {"version": 2, "rules": [BAN | {"kind": "allow", "provider": "*"}]}
    assert run(gateway, "allow", "gh/other-org/") == 0
    assert [body["pattern"] for body, _ in gateway.posts] == ["our-org/", "other-org/"]


def test_all_rules_are_printed(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.replies[POLICY] = {"version": 1, "rules": [OF_SETTINGS, BAN]}
    assert run(gateway, "policy") == 0
    assert capsys.readouterr().out == f"spec_config       config      gh/.*  quota=3\n{PRINTED}"


def test_the_rule_that_decides_about_a_link_is_printed_first(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "Sorry, gh/evil/miner/HEAD is not allowed to launch here. It mines coins."
    verdict = {"refusal": refusal, "rule": BAN, "matches": [OF_SETTINGS, BAN]}
    gateway.replies[f"{POLICY}/explain"] = verdict
    assert run(gateway, "policy", "why", "https://bindery.example/v2/gh/evil/miner/HEAD") == 1
    assert gateway.posts[0][0] == {"provider": "gh", "spec": "evil/miner/HEAD"}
    assert capsys.readouterr().out == f"{refusal}\n{PRINTED}spec_config       config      gh/.*  quota=3\n"

    gateway.replies[f"{POLICY}/explain"] = {"refusal": "", "rule": None, "matches": []}
    assert run(gateway, "policy", "why", "gh/org/repo/HEAD") == 0
    assert capsys.readouterr().out == "gh/org/repo/HEAD may be launched.\n"

    gateway.replies[f"{POLICY}/explain"] = {"refusal": "Sorry.", "rule": None, "matches": []}
    assert run(gateway, "policy", "why", "gh/org/repo/HEAD") == 1
    assert "none of the allowances" in capsys.readouterr().out


def test_a_rule_is_removed_with_who_and_why(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_OPERATOR_TOKEN", "of-the-operator")
    assert run(gateway, "policy", "remove", "0123456789ab", "--reason", "Clean") == 0
    ((path, token),) = gateway.deletions
    assert re.fullmatch(rf"{POLICY}/rules/0123456789ab\?by=[^&]*&reason=Clean", path)
    assert token == "of-the-operator"


def test_the_audit_log_is_printed(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    change = {"version": 1, "action": "removed", "rule": BAN, "by": "bob", "at": 0.0, "reason": "Clean"}
    gateway.replies[f"{POLICY}/audit?limit=20"] = [change, change | {"by": "", "reason": ""}]
    assert run(gateway, "policy", "audit") == 0
    line = "1970-01-01 00:00:00Z  {} removed 0123456789ab  ban gh/evil/miner/{}"
    assert capsys.readouterr().out.splitlines() == [line.format("bob", "  (Clean)"), line.format("somebody", "")]


@pytest.mark.parametrize("arguments", [["why"], ["remove"], ["list", "a"], ["audit", "a"]])
def test_an_action_has_what_it_is_about_and_no_more(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(gateway, "policy", *arguments) == 1
    assert "Write `why LINK`" in capsys.readouterr().err
