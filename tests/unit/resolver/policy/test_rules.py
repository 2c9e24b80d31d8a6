"""Rules about one link of a repository hold for all of its links, of whichever provider."""

from typing import Any

import pytest

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.models.policy import LinkToCheck, PolicyDocument, PolicyRule, RuleKind, Verdict
from services.common.service.clock import clock
from services.resolver.policy.rules import Rules
from services.resolver.providers.base import Provider, Resolved
from services.resolver.providers.git import Git
from services.resolver.settings import ResolverSettings
from tests.support.in_process_launcher import REPO
from tests.support.settings import settings_for

URL = "https%3A%2F%2Fshelf.test%2Fann%2Fnotes"


class Shelf(Provider):
    """Repositories named `<owner>/<name>/<ref>`, at https://shelf.test."""

    prefix = "shelf"
    name = "Shelf"

    @property
    def display_config(self) -> dict[str, Any]:
        return {}

    async def resolve(self, spec: str) -> ResolvedRepo:
        raise LookupError(spec)

    def repository_of(self, url: str) -> str | None:
        path = url.removeprefix("https://shelf.test/").removesuffix(".git")
        return path if path != url else None


def rules_of(*live: PolicyRule, **settings: object) -> tuple[Rules, dict[str, Provider]]:
    chosen = settings_for(ResolverSettings, settings)
    providers: dict[str, Provider] = {"git": Git(chosen), "shelf": Shelf(chosen)}
    document = PolicyDocument(version=len(live), rules=live)
    return Rules(chosen, providers, document), providers


def live_rule(kind: RuleKind, pattern: str, **fields: Any) -> PolicyRule:
    return PolicyRule(**{"id": pattern, "kind": kind, "provider": "shelf", "pattern": pattern} | fields)


def is_refused(spec: str, **settings: object) -> bool:
    rules, providers = rules_of(**settings)
    link = Spec(provider="git", spec=spec)
    try:
        rules.check(providers["git"], link)
    except BinderyError as error:
        return error.detail == f"Sorry, {link} is not allowed to launch here."
    return False


@pytest.mark.parametrize("spec", [f"{URL}/main", f"{URL}.git/main", "http%3A%2F%2Fshelf.test%2Fann%2Fnotes/main"])
def test_a_ban_of_a_providers_link_holds_for_its_urls(spec: str) -> None:
    assert is_refused(spec, banned_specs={"shelf": ["ann/notes/"]})
    assert not is_refused(spec, banned_specs={"shelf": ["ann/others/"]})


def test_a_ban_holds_for_what_a_redirect_leads_to() -> None:
    rules, providers = rules_of(banned_specs={"shelf": ["ann/notes/"]})
    spec = Spec(provider="git", spec="https%3A%2F%2Fold.test%2Fnotes/main")
    repo = REPO.updated(resolved_spec="https%3A%2F%2Fold.test%2Fnotes/0123", reached_url=None)
    rules.check_reached(providers["git"], spec, Resolved(repo))
    with pytest.raises(BinderyError) as raised:
        rules.check_reached(
            providers["git"], spec, Resolved(repo.updated(reached_url="https://shelf.test/ann/notes.git"))
        )
    assert raised.value.code == "banned"


def test_a_configuration_of_a_providers_link_is_that_of_its_url() -> None:
    config = {"shelf": [{"pattern": "ann/", "config": {"quota": 7, "resource_class": "large"}}]}
    rules, providers = rules_of(spec_config=config)
    repo = REPO.updated(resolved_spec=f"{URL}/0123", quota=None, resource_class=None)
    configured = rules.configure(providers["git"], Spec(provider="git", spec=f"{URL}/main"), Resolved(repo))
    assert (configured.quota, configured.resource_class) == (7, "large")


def test_the_rules_have_a_name_that_changes_with_them() -> None:
    ids = {rules_of(**settings)[0].id for settings in ({}, {"banned_specs": {"*": ["a"]}}, {"providers": "git"})}
    assert len(ids) == 2


NOTES = Spec(provider="git", spec=f"{URL}/main")


def code_of(rules: Rules, providers: dict[str, Provider], link: Spec) -> str:
    try:
        rules.check(providers[link.provider], link)
    except BinderyError as error:
        return error.code
    return ""


def test_a_live_ban_holds_as_one_of_the_settings_and_tells_its_reason() -> None:
    rules, providers = rules_of(live_rule(RuleKind.BAN, "ann/", reason="It mines coins."))
    with pytest.raises(BinderyError) as raised:
        rules.check(providers["git"], NOTES)
    assert raised.value.detail == f"Sorry, {NOTES} is not allowed to launch here. It mines coins."
    assert code_of(rules, providers, Spec(provider="shelf", spec="bob/notes/main")) == ""


def test_a_live_allowance_closes_its_provider_to_all_else() -> None:
    rules, providers = rules_of(live_rule(RuleKind.ALLOW, "bob/"))
    assert code_of(rules, providers, Spec(provider="shelf", spec="bob/notes/main")) == ""
    assert code_of(rules, providers, Spec(provider="shelf", spec="ann/notes/main")) == "banned"
    assert code_of(rules, providers, Spec(provider="git", spec="https%3A%2F%2Felsewhere.test%2Fa/main")) == ""


def test_an_expired_ban_is_over_and_what_an_expired_allowance_closed_stays_closed() -> None:
    over = {"expires_at": clock.now() - 1}
    rules, providers = rules_of(live_rule(RuleKind.BAN, "ann/", **over))
    assert code_of(rules, providers, Spec(provider="shelf", spec="ann/notes/main")) == ""
    rules, providers = rules_of(live_rule(RuleKind.ALLOW, "ann/", **over))
    assert code_of(rules, providers, Spec(provider="shelf", spec="ann/notes/main")) == "banned"


def test_rules_are_valid_until_the_first_of_them_expires() -> None:
    soon = clock.now() + 100
    rules, _ = rules_of(
        live_rule(RuleKind.BAN, "a", expires_at=soon + 1), live_rule(RuleKind.BAN, "b", expires_at=soon)
    )
    assert rules.valid_until == soon
    assert rules_of()[0].valid_until > soon + 10**9


def test_live_configurations_come_after_those_of_the_settings_and_own_keys_are_kept() -> None:
    config = {"*": [{"pattern": ".*", "config": {"quota": 7, "resource_class": "large", "pool": "a", "disk": 1}}]}
    live = live_rule(RuleKind.CONFIG, "ann/", config={"quota": 9, "pool": "b"})
    rules, providers = rules_of(live, spec_config=config)
    repo = REPO.updated(resolved_spec=f"{URL}/0123", quota=None, resource_class=None)
    configured = rules.configure(providers["git"], NOTES, Resolved(repo))
    assert (configured.quota, configured.resource_class) == (9, "large")
    assert configured.config == {"pool": "b", "disk": 1}


def test_a_high_quota_counts_unless_a_configuration_sets_one() -> None:
    repo = REPO.updated(resolved_spec=f"{URL}/0123", quota=None)
    high = {"high_quota_specs": {"shelf": ["ann/"]}, "per_repo_quota_higher": 200}
    for live, settings, quota in (
        ((), {}, None),
        ((), high, 200),
        ((live_rule(RuleKind.HIGH_QUOTA, "ann/"),), {"per_repo_quota_higher": 200}, 200),
        ((live_rule(RuleKind.CONFIG, "ann/", config={"quota": 5}),), high, 5),
    ):
        rules, providers = rules_of(*live, **settings)
        assert rules.configure(providers["git"], NOTES, Resolved(repo)).quota == quota


def test_a_verdict_names_the_rule_that_decides_and_all_that_match() -> None:
    ban = live_rule(RuleKind.BAN, "ann/", reason="It mines coins.")
    config = live_rule(RuleKind.CONFIG, ".*", config={"quota": 1})
    rules, _ = rules_of(ban, config, live_rule(RuleKind.BAN, "bob/"))
    verdict = rules.verdict(LinkToCheck(spec=NOTES))
    assert (verdict.rule, verdict.matches) == (ban, (ban, config))
    assert verdict.refusal.endswith("It mines coins.")


def test_a_verdict_is_about_the_repository_that_a_link_led_to() -> None:
    rules, _ = rules_of(live_rule(RuleKind.BAN, "ann/"))
    old = Spec(provider="git", spec="https%3A%2F%2Fold.test%2Fnotes/main")
    repo = REPO.updated(
        resolved_spec="https%3A%2F%2Fold.test%2Fnotes/0123", repo_url="https://shelf.test/ann/notes.git"
    )
    assert rules.verdict(LinkToCheck(spec=old)) == Verdict()
    assert rules.verdict(LinkToCheck(spec=old, repo=repo)).refusal


def test_what_no_allowance_matches_is_refused_by_no_single_rule() -> None:
    rules, _ = rules_of(allowed_specs={"shelf": ["bob/"]})
    verdict = rules.verdict(LinkToCheck(spec=Spec(provider="shelf", spec="ann/notes/main")))
    assert verdict.refusal
    assert verdict.rule is None
    assert rules.verdict(LinkToCheck(spec=Spec(provider="nobodys", spec="a"))) == Verdict()


def test_the_id_changes_with_each_live_rule_and_when_one_expires() -> None:
    soon = clock.now() + 1000
    ids = {
        rules_of(*live)[0].id
        for live in (
            (),
            (live_rule(RuleKind.BAN, "a"),),
            (live_rule(RuleKind.BAN, "a", reason="x"),),
            (live_rule(RuleKind.BAN, "a", expires_at=soon),),
            (live_rule(RuleKind.BAN, "a", expires_at=clock.now() - 1),),
        )
    }
    assert len(ids) == 5
