"""Rules about one link of a repository hold for all of its links, of whichever provider."""

from typing import Any

import pytest

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
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


def rules_of(**settings: object) -> tuple[Rules, dict[str, Provider]]:
    chosen = settings_for(ResolverSettings, settings)
    providers: dict[str, Provider] = {"git": Git(chosen), "shelf": Shelf(chosen)}
    return Rules(chosen, providers), providers


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
