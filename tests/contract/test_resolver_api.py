"""The resolver as its callers see it: providers, bans, one question upstream for all, errors as problems."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from services.resolver import providers
from services.resolver.providers.base import Provider
from services.resolver.providers.git import Git
from services.resolver.settings import ResolverSettings
from tests.support.forge import Fault, Forge, Page
from tests.support.in_process_resolver import running_resolver
from tests.support.polling import until
from tests.support.settings import settings_for
from tests.support.valkey import Valkey, running_valkey


async def test_an_unknown_provider_is_said() -> None:
    async with running_resolver() as resolver:
        problem = await resolver.problem("nosuch", "a/b/c")
    assert problem.code == "unknown_provider"
    assert "No provider found for prefix nosuch" in problem.detail


async def test_only_our_own_services_are_answered() -> None:
    async with running_resolver() as resolver:
        for token in ("", "Bearer wrong"):
            reply = await resolver.client.post(
                "/resolve", json={"provider": "gh", "spec": "a/b/c"}, headers={"Authorization": token}
            )
            assert reply.status_code == 401
            assert reply.json()["code"] == "unauthorized"


async def test_a_body_that_is_not_a_spec_is_refused() -> None:
    async with running_resolver() as resolver:
        reply = await resolver.client.post("/resolve", json={"provider": "gh"})
    assert reply.status_code == 422
    assert reply.json()["code"] == "bad_request"


async def test_all_who_ask_at_once_share_one_question(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    hold = threading.Event()
    forge.api_fault = Fault(hold=hold)
    async with running_resolver(forge) as resolver, asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.repo("gh", "org/repo/HEAD")) for _ in range(50)]
        await until(lambda: forge.api_requests)
        hold.set()
        await asyncio.wait(tasks)
    assert {task.result().ref for task in tasks} == {sha}
    assert len(forge.api_requests) == 1


async def test_all_who_ask_at_once_share_the_failure(forge: Forge) -> None:
    hold = threading.Event()
    forge.api_fault = Fault(hold=hold, status=502)
    async with running_resolver(forge) as resolver, asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.problem("gh", "org/repo/HEAD")) for _ in range(20)]
        await until(lambda: forge.api_requests)
        hold.set()
        await asyncio.wait(tasks)
    assert {task.result().code for task in tasks} == {"provider_unavailable"}
    assert len(forge.api_requests) == 1


async def test_resolving_has_a_longest_time(forge: Forge) -> None:
    forge.api_fault = Fault(hold=threading.Event())
    async with running_resolver(forge, resolve_timeout_seconds=0.2) as resolver:
        problem = await resolver.problem("gh", "org/repo/HEAD")
    assert problem.code == "provider_unavailable"
    assert problem.detail == "Resolving gh/org/repo/HEAD took over 0.2 s."


async def test_bans_hold_for_every_way_to_write_a_repository(forge: Forge) -> None:
    forge.create_repo("evil", "repo", {"a": "1"})
    forge.create_repo("good", "repo", {"a": "1"})
    by_git = quote(f"{forge.url}/evil/repo", safe="")
    lower_case = by_git.replace("%2F", "%2f")
    partly = by_git.replace("repo", "r%65po")
    async with running_resolver(forge, banned_specs={"gh": [r"^EVIL/repo/.*"]}) as resolver:
        for provider, spec in [
            ("gh", "evil/repo/HEAD"),
            ("gh", "Evil/Repo/HEAD"),
            ("gh", "evil/repo.git/main"),
            ("git", f"{by_git}/HEAD"),
            ("git", f"{by_git}.git/HEAD"),
            ("git", f"{lower_case}/HEAD"),
            ("git", f"{partly}/HEAD"),
        ]:
            problem = await resolver.problem(provider, spec)
            assert (problem.code, problem.whose_move) == ("banned", "operator")
            assert f"Sorry, {provider}/{spec} is not allowed to launch here." in problem.detail
        assert forge.requests == []
        await resolver.repo("gh", "good/repo/HEAD")


SPELLINGS = (
    "https://github.com/evil/repo", "https://github.com:443/evil/repo", "http://github.com/evil/repo",
    "http://github.com:80/Evil/repo.git", "https://www.github.com/evil/repo", "https://github.com./evil/repo",
    "https://GitHub.com/evil/repo.git/", "https://github.com/%65vil/repo", "https://github.com/./evil/repo",
    "https://github.com//evil/repo", "https://github.com/evil/%2e/repo.git.git", "ssh://git@github.com/evil/repo",
    "git@github.com:evil/repo", "git://github.com/evil/repo",
)  # fmt: skip


@pytest.mark.parametrize(
    "banned_specs",
    [{"gh": ["evil/.*"]}, {"gh": ["evil/repo/"]}, {"git": [quote("https://github.com/evil/repo", safe="") + "/"]},
     {"git": [quote("https://github.com/evil/repo.git", safe="") + "/"]}, {"*": ["evil/repo"]}],
)  # fmt: skip
async def test_no_spelling_gets_around_a_ban(banned_specs: dict[str, list[str]]) -> None:
    """Nothing is asked: the bans come first."""
    async with running_resolver(banned_specs=banned_specs, git_allowed_protocols="http,https,ssh,git") as resolver:
        links = [("gh", "evil/repo/HEAD"), ("gh", "Evil/repo.git/HEAD")]
        links += [("git", f"{quote(url, safe='')}/{ref}") for url in SPELLINGS for ref in ("HEAD", "0" * 40)]
        codes = {link: (await resolver.problem(*link)).code for link in links}
    assert codes == dict.fromkeys(links, "banned")


async def test_a_user_in_a_url_gets_around_no_ban() -> None:
    async with running_resolver(banned_specs={"gh": ["evil/.*"]}) as resolver:
        problem = await resolver.problem("git", f"{quote('https://user@github.com/evil/repo', safe='')}/HEAD")
    assert problem.code == "bad_spec"
    assert "must not hold a password or a user name" in problem.detail


async def test_a_ban_holds_where_a_redirect_leads_to(forge: Forge) -> None:
    forge.create_repo("evil", "repo", {"a": "1"})
    forge.create_repo("good", "repo", {"a": "1"})
    for name, to in (("a", "evil/repo"), ("b", "good/repo")):
        target = f"{forge.url}/{to}/info/refs?service=git-upload-pack"
        forge.pages[f"/short/{name}/info/refs"] = Page(302, {"Location": target})
    shortened = {name: f"{quote(f'{forge.url}/short/{name}', safe='')}/HEAD" for name in "ab"}
    async with running_resolver(forge, banned_specs={"gh": ["evil/"]}) as resolver:
        problem = await resolver.problem("git", shortened["a"])
        assert problem.code == "banned"
        assert f"Sorry, git/{shortened['a']} is not allowed to launch here." in problem.detail
        assert (await resolver.repo("git", shortened["b"])).reached_url == f"{forge.url}/good/repo"
    allowed = {"git": [quote(f"{forge.url}/short", safe="")], "gh": ["good/"]}
    async with running_resolver(forge, allowed_specs=allowed) as resolver:
        assert (await resolver.problem("git", shortened["a"])).code == "banned"
        await resolver.repo("git", shortened["b"])


async def test_a_link_by_git_to_github_needs_what_a_link_by_gh_needs(forge: Forge) -> None:
    forge.create_repo("our", "repo", {"a": "1"})
    forge.create_repo("evil", "repo", {"a": "1"})
    forge.create_repo("git", "repo", {"a": "1"})

    def by_git(path: str) -> str:
        return f"{quote(f'{forge.url}/{path}', safe='')}/HEAD"

    async with running_resolver(forge, allowed_specs={"gh": ["our/"]}) as resolver:
        for path in ("our/repo", "our/./repo.git", "%6Fur/repo"):
            await resolver.repo("git", by_git(path))
        for path in ("evil/repo", "./evil/repo", "our.evil/repo"):
            assert (await resolver.problem("git", by_git(path))).code == "banned"
    async with running_resolver(allowed_specs={"gh": ["our/"]}) as resolver:
        await resolver.repo("git", by_git("git/repo"))  # elsewhere, where nothing is said of `git`


async def test_specs_outside_the_allowed_ones_are_refused(forge: Forge) -> None:
    forge.create_repo("good", "repo", {"a": "1"})
    allowed = {"gh": ["good/"], "*": ["never/"]}
    async with running_resolver(forge, allowed_specs=allowed, banned_specs={"*": [".*/secret$"]}) as resolver:
        await resolver.repo("gh", "good/repo/HEAD")
        assert (await resolver.problem("gh", "other/repo/HEAD")).code == "banned"
        assert (await resolver.problem("gh", "good/repo/secret")).code == "banned"
        assert (await resolver.problem("git", "https%3A%2F%2Fexample.org/HEAD")).code == "banned"


async def test_a_repository_gets_what_is_configured_for_it_under_any_of_its_names(forge: Forge) -> None:
    forge.create_repo("course", "week1", {"a": "1"})
    forge.create_repo("other", "repo", {"a": "1"})
    configured = {
        "*": [{"pattern": ".*", "config": {"quota": 10, "resource_class": "small"}}],
        "gh": [
            {"pattern": "course/", "config": {"quota": 300}},
            {"pattern": "COURSE/week1/", "config": {"resource_class": "large"}},
        ],
    }
    by_git = quote(f"{forge.url}/course/week1", safe="")
    async with running_resolver(forge, spec_config=configured) as resolver:
        for provider, spec in [("gh", "course/week1/HEAD"), ("git", f"{by_git}/HEAD")]:
            repo = await resolver.repo(provider, spec)
            assert (repo.quota, repo.resource_class) == (300, "large")
        repo = await resolver.repo("gh", "other/repo/HEAD")
        assert (repo.quota, repo.resource_class) == (10, "small")
    async with running_resolver(forge) as resolver:
        repo = await resolver.repo("gh", "course/week1/HEAD")
        assert (repo.quota, repo.resource_class) == (None, None)


@pytest.mark.parametrize(
    "item",
    [
        {"pattern": "(", "config": {}},
        {"pattern": "a", "config": {"quota": -2}},
        {"pattern": "a"},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_at_start(item: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings_for(ResolverSettings, {"spec_config": {"gh": [item]}})


class Shelf(Git):
    """A provider of somebody else's."""

    prefix = "shelf"


class EntryPoint:
    name = "shelf"

    def __init__(self, loaded: object) -> None:
        self._loaded = loaded

    def load(self) -> object:
        return self._loaded


def test_a_provider_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = list(providers.load_providers(ResolverSettings()))
    monkeypatch.setattr(providers, "entry_points", lambda group: [EntryPoint(Shelf)] if "bindery" in group else [])
    loaded = providers.load_providers(ResolverSettings())
    assert list(loaded) == [*ours, "shelf"]
    assert isinstance(loaded["shelf"], Provider)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path) as valkey:
        yield valkey


async def test_a_healthy_resolver_says_so(own_valkey: Valkey) -> None:
    async with running_resolver(redis_url=own_valkey.url_of("resolver")) as resolver:

        async def is_well() -> bool:
            return (await resolver.client.get("/health")).status_code == 200

        await until(is_well)
        metrics = await resolver.client.get("/metrics")
    assert "binderhub_github_rate_limit_remaining" in metrics.text


async def test_a_forge_that_soon_answers_no_more_is_on_the_health_page(own_valkey: Valkey, forge: Forge) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.rate_remaining = 800
    async with running_resolver(forge, redis_url=own_valkey.url) as resolver:
        await resolver.repo("gh", "org/repo/main")

        async def is_told() -> bool:
            reply = await resolver.client.get("/health")
            rows = {row["service"]: row for row in reply.json()["checks"]}
            return reply.status_code == 200 and "less than 20% left of 5,000 requests" in rows["Forges"].get(
                "message", ""
            )

        await until(is_told, "the warning")


async def test_a_resolver_without_redis_resolves_and_its_health_says_what_is_wrong() -> None:
    async with running_resolver() as resolver:

        async def rows() -> list[dict[str, object]]:
            return list((await resolver.client.get("/health")).json()["checks"])

        async def is_checked() -> bool:
            return "does not answer" in str((await rows())[0]["message"])

        await until(is_checked)
        names = [(row["service"], row["ok"]) for row in await rows()]
        assert names == [("Redis", False), ("Forges", True), ("Policy", True)]
        assert "Redis at 127.0.0.1:1/0 does not answer" in str((await rows())[0]["message"])
        assert (await resolver.client.get("/readyz")).status_code == 200
