"""The resolver with a provider that answers from a table: bans, allowances, configuration, deadline, sharing."""

import asyncio
from typing import Any

import pytest

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.resolver.providers.base import Provider
from services.resolver.resolver import Resolver
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

SHA = "0123456789abcdef0123456789abcdef01234567"


class Shelf(Provider):
    """Repositories named `<name>/<ref>`; `other-<name>` is another link to each of them."""

    prefix = "shelf"
    name = "Shelf"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self.requests: list[str] = []
        self.reached_url: str | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    @property
    def display_config(self) -> dict[str, Any]:
        return {}

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        return (Spec(provider=self.prefix, spec=f"other-{spec}"),)

    async def resolve(self, spec: str) -> ResolvedRepo:
        self.requests.append(spec)
        await self.answers.wait()
        name = spec.partition("/")[0]
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"https://shelf.test/{name}",
            ref=SHA,
            resolved_spec=f"{name}/{SHA}",
            ref_url=f"https://shelf.test/{name}",
            slug=name,
            display_name=name,
            reached_url=self.reached_url,
        )


def resolver_of(**settings: object) -> tuple[Resolver, Shelf]:
    chosen = settings_for(ResolverSettings, settings)
    shelf = Shelf(chosen)
    return Resolver(chosen, {shelf.prefix: shelf}), shelf


def link(spec: str, provider: str = "shelf") -> Spec:
    return Spec(provider=provider, spec=spec)


async def code_of(resolver: Resolver, spec: str) -> str:
    with pytest.raises(BinderyError) as raised:
        await resolver.resolve(link(spec))
    return raised.value.code


async def test_a_link_is_resolved_without_its_last_slashes() -> None:
    resolver, shelf = resolver_of()
    assert (await resolver.resolve(link("name/main//"))).spec == "name/main"
    assert shelf.requests == ["name/main"]


async def test_a_prefix_that_no_provider_has_is_named() -> None:
    resolver, _ = resolver_of()
    with pytest.raises(BinderyError, match="No provider found for prefix nosuch") as raised:
        await resolver.resolve(link("name/main", provider="nosuch"))
    assert raised.value.code == "unknown_provider"


@pytest.mark.parametrize("banned_specs", [{"shelf": ["name/"]}, {"*": ["NAME/"]}, {"shelf": ["x", "other-name/"]}])
async def test_a_ban_of_any_link_is_a_ban_before_anything_is_asked(banned_specs: dict[str, list[str]]) -> None:
    resolver, shelf = resolver_of(banned_specs=banned_specs)
    assert await code_of(resolver, "name/main") == "banned"
    assert shelf.requests == []
    await resolver.resolve(link("another/main"))


async def test_a_ban_matches_from_the_start_only() -> None:
    resolver, _ = resolver_of(banned_specs={"shelf": ["main"]})
    await resolver.resolve(link("name/main"))


async def test_a_ban_of_what_a_link_resolves_to_is_a_ban_of_the_link() -> None:
    resolver, shelf = resolver_of(banned_specs={"shelf": [f"name/{SHA}"]})
    assert await code_of(resolver, "name/main") == "banned"
    assert shelf.requests == ["name/main"]


async def test_a_ban_of_the_repository_that_was_reached_is_a_ban_of_the_link() -> None:
    resolver, shelf = resolver_of(banned_specs={"git": [".*evil"]})
    shelf.reached_url = "https://shelf.test/evil"
    assert await code_of(resolver, "name/main") == "banned"


async def test_with_allowances_one_must_match() -> None:
    resolver, shelf = resolver_of(allowed_specs={"shelf": ["good/", "fine/"]})
    await resolver.resolve(link("fine/main"))
    assert await code_of(resolver, "name/main") == "banned"
    assert shelf.requests == ["fine/main"]


async def test_allowances_of_other_providers_do_not_count() -> None:
    resolver, _ = resolver_of(allowed_specs={"gh": ["good/"]})
    await resolver.resolve(link("name/main"))


async def test_the_last_configuration_that_sets_a_value_counts() -> None:
    resolver, _ = resolver_of(
        spec_config={
            "*": [{"pattern": ".*", "config": {"quota": 1, "resource_class": "small"}}],
            "shelf": [
                {"pattern": "name/", "config": {"quota": 5}},
                {"pattern": "other-name/main", "config": {"quota": 7}},
                {"pattern": "unrelated", "config": {"resource_class": "large"}},
            ],
        }
    )
    repo = await resolver.resolve(link("name/main"))
    assert (repo.quota, repo.resource_class) == (7, "small")
    another = await resolver.resolve(link("another/main"))
    assert (another.quota, another.resource_class) == (1, "small")


async def test_concurrent_calls_for_one_link_share_an_answer() -> None:
    resolver, shelf = resolver_of()
    shelf.answers.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.resolve(link("name/main"))) for _ in range(5)]
        await asyncio.sleep(0)
        shelf.answers.set()
    assert {task.result().ref for task in tasks} == {SHA}
    assert shelf.requests == ["name/main"]


async def test_a_provider_that_takes_too_long_is_unavailable() -> None:
    resolver, shelf = resolver_of(resolve_timeout_seconds=0.05)
    shelf.answers.clear()
    assert await code_of(resolver, "name/main") == "provider_unavailable"


@pytest.mark.parametrize(
    "settings",
    [
        {"banned_specs": {"gh": ["a"]}},
        {"allowed_specs": {"gh": ["a"]}},
        {"spec_config": {"gh": [{"pattern": "a", "config": {}}]}},
        {"high_quota_specs": {"gh": ["a"]}},
        {"per_repo_quota_higher": 300},
        {"allowed_networks": "10.0.0.0/8"},
        {"refused_networks": "10.0.0.0/8"},
        {"git_allowed_protocols": "https"},
        {"github_url": "https://github.example.org"},
    ],
)
def test_the_policy_changes_with_each_setting_that_decides_about_links(settings: dict[str, object]) -> None:
    assert resolver_of(**settings)[0].policy.rules.id != resolver_of()[0].policy.rules.id


def test_the_policy_does_not_change_with_other_settings() -> None:
    others = {"github_access_token": "secret", "listen_port": 8000}
    assert resolver_of(**others)[0].policy.rules.id == resolver_of()[0].policy.rules.id
