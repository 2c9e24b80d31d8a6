"""The provider in docs/contributing.md, added to a resolver as another package would add it, on a real git server."""

import re
from typing import Any
from urllib.parse import quote

import pytest

from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.repository_types import RepositoryType
from services.resolver import providers
from services.resolver.providers.base import Provider
from services.resolver.settings import ResolverSettings
from tests.support.forge import Forge
from tests.support.in_process_resolver import running_resolver
from tests.support.paths import CHECKOUT

OPENED_REPO = {"requirements.txt": ""}


class EntryPoint:
    """An installed package's entry of the group `bindery.providers`."""

    name = "codeberg"

    def __init__(self, provider: type[Provider]) -> None:
        self._provider = provider

    def load(self) -> type[Provider]:
        return self._provider


@pytest.fixture
def codeberg(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> type[Provider]:
    """The example, for which the forge is Codeberg; resolvers find it."""
    page = (CHECKOUT / "docs" / "contributing.md").read_text()
    source = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert source
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source[1], "docs/contributing.md", "exec"), names)  # noqa: S102 -- our own page
    example: type[Provider] = names["Codeberg"]
    assert issubclass(example, Provider)

    monkeypatch.setattr(example, "host_url", forge.url)
    entry_points = {"bindery.providers": [EntryPoint(example)]}
    monkeypatch.setattr(providers, "entry_points", lambda group: entry_points.get(group, []))
    return example


def test_its_form_accepts_its_links_and_the_addresses_of_its_pages(codeberg: type[Provider]) -> None:
    kind = RepositoryType.of(codeberg(ResolverSettings()).display_config)
    assert kind.accepts("owner/name/HEAD")
    assert not kind.accepts("owner/name")


async def test_addresses_of_its_pages_are_read_by_its_row_and_its_forge_is_asked_for_the_branch(
    forge: Forge, codeberg: type[Provider]
) -> None:
    forge.create_repo("owner", "name", OPENED_REPO, branch="wip/plots")
    async with running_resolver() as resolver:
        configs = (await resolver.client.get("/providers")).json()
        types = [RepositoryType.of(config) for config in configs]
        reading = read_address(f"{forge.url}/owner/name/src/branch/wip/plots/a.py?x#L1", types)
        refs = [candidate.ref for candidate in reading.candidates]
        reply = await resolver.client.post("/refs", json={"provider": "cb", "repository": "owner/name", "refs": refs})
    assert (reading.repository_type.id, reading.repository) == ("cb", "owner/name")
    assert refs == ["wip/plots/a.py", "wip/plots", "wip"]
    assert reply.json() == {"existing": ["wip/plots"]}


@pytest.mark.parametrize("link", ["owner/name/feature/x", "owner/name/feature%2Fx", "owner/name.git/feature/x"])
async def test_a_branch_becomes_its_commit(forge: Forge, codeberg: type[Provider], link: str) -> None:
    sha = forge.create_repo("owner", "name", OPENED_REPO, branch="feature/x")
    async with running_resolver() as resolver:
        repo = await resolver.repo("cb", link)
    assert (repo.ref, repo.resolved_spec, repo.slug) == (sha, f"owner/name/{sha}", "owner-name")
    assert repo.ref_url == f"{forge.url}/owner/name/src/commit/{sha}"


@pytest.mark.parametrize(
    "link", ["owner", "owner/name", "owner//HEAD", "../name/HEAD", "%2e%2e/name/HEAD", "%6fwner/name/HEAD", "o/n/-u"]
)
async def test_a_link_that_names_no_repository_is_refused(codeberg: type[Provider], link: str) -> None:
    async with running_resolver() as resolver:
        assert (await resolver.problem("cb", link)).code == "bad_spec"


async def test_a_branch_that_does_not_exist_is_named(forge: Forge, codeberg: type[Provider]) -> None:
    forge.create_repo("owner", "name", OPENED_REPO)
    async with running_resolver() as resolver:
        problem = await resolver.problem("cb", "owner/name/nothing")
    assert problem.code == "ref_not_found"
    assert "nothing" in (problem.detail or "")


async def test_a_ban_by_either_prefix_holds(forge: Forge, codeberg: type[Provider]) -> None:
    forge.create_repo("evil", "name", OPENED_REPO)
    by_git = quote(f"{forge.url}/evil/name", safe="")
    for banned_specs in ({"cb": ["evil/"]}, {"git": [f"{by_git}/"]}, {"*": ["evil/"]}):
        async with running_resolver(banned_specs=banned_specs) as resolver:
            for link in ("evil/name/HEAD", "evil/name.git/HEAD"):
                assert (await resolver.problem("cb", link)).code == "banned"
