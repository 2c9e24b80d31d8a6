"""Provider `hydroshare` of the resolver, against the recorded reply of HydroShare's API."""

import pytest

from tests.support.archives import recorded, reply, resolver_of_archives
from tests.support.forge import Forge

RESOURCE = "142c59757ed54de1816777828c9716e7"
API = f"/hydroshare/resource/{RESOURCE}/scimeta/elements"
PAGE = f"https://www.hydroshare.org/resource/{RESOURCE}"
BY_URL = f"https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F{RESOURCE}"


@pytest.fixture
def hydroshare(forge: Forge) -> Forge:
    """A forge with one resource."""
    forge.pages[API] = recorded(f"www.hydroshare.org_hsapi_resource_{RESOURCE}_scimeta_elements").page
    return forge


@pytest.mark.parametrize(
    "spec", [RESOURCE, RESOURCE.upper(), f"10.4211%2Fhs.{RESOURCE}", BY_URL, f"{BY_URL}%2F", f"{PAGE}/"]
)
async def test_whatever_has_the_id_of_a_resource_is_it(hydroshare: Forge, spec: str) -> None:
    async with resolver_of_archives(hydroshare) as resolver:
        repo = await resolver.repo("hydroshare", spec)
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "hydroshare",
        "spec": spec.rstrip("/"),
        "repo_url": PAGE,
        "ref": f"{RESOURCE}.v1545934606",
        "resolved_spec": RESOURCE,
        "ref_url": PAGE,
        "slug": f"hydroshare-{RESOURCE}.v1545934606",
        "display_name": f"HydroShare {RESOURCE}",
        "immutable_spec": False,
        "content_provider": "Hydroshare",
        "ignores_case": False,
    }


@pytest.mark.parametrize("spec", ["x", RESOURCE[:31], f"{RESOURCE}0", f"{RESOURCE}%2F{RESOURCE[::-1]}"])
async def test_what_names_no_resource_or_two_is_refused_unasked(hydroshare: Forge, spec: str) -> None:
    async with resolver_of_archives(hydroshare) as resolver:
        problem = await resolver.problem("hydroshare", spec)
    assert problem.code == "bad_spec"
    assert "does not name a HydroShare resource" in problem.detail
    assert hydroshare.requests == []


@pytest.mark.parametrize(
    "dates", [None, [], ["x"], [{"type": "created"}], [{"type": "modified"}], [{"type": "modified", "start_date": "x"}]]
)
async def test_a_resource_without_a_date_of_change_is_not_understood(hydroshare: Forge, dates: object) -> None:
    hydroshare.pages[API] = reply({"dates": dates})
    async with resolver_of_archives(hydroshare) as resolver:
        problem = await resolver.problem("hydroshare", RESOURCE)
    assert problem.code == "provider_unavailable"
    assert problem.detail == "HydroShare answered in a form that is not understood."


async def test_a_ban_holds_for_every_way_to_write_a_resource(hydroshare: Forge) -> None:
    banned = ({"hydroshare": [RESOURCE]}, {"hydroshare": [BY_URL]}, {"doi": ["10.4211/hs.142c"]}, {"*": [RESOURCE]})
    for specs in banned:
        async with resolver_of_archives(hydroshare, banned_specs=specs) as resolver:
            for spec in (RESOURCE, BY_URL, f"10.4211%2Fhs.{RESOURCE}"):
                assert (await resolver.problem("hydroshare", spec)).code == "banned"


async def test_an_allowance_holds_for_every_way_to_write_a_resource(hydroshare: Forge) -> None:
    async with resolver_of_archives(hydroshare, allowed_specs={"hydroshare": [BY_URL]}) as resolver:
        for spec in (RESOURCE, BY_URL, f"10.4211%2Fhs.{RESOURCE}"):
            await resolver.repo("hydroshare", spec)
        assert (await resolver.problem("hydroshare", RESOURCE[::-1])).code == "banned"
