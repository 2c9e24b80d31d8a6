"""Provider `ckan` of the resolver, against the recorded reply of a CKAN for what a dataset was after an activity."""

import time
from typing import Any
from urllib.parse import quote

import pytest

from services.resolver.providers.archive import epoch_of
from tests.support.archives import recorded, reply, resolver_of_archives
from tests.support.forge import Forge, Page

DATASET = "39799a20-ecca-4f3e-b593-196e72d9a9fd"
ACTIVITY = "7b8a0a4c-1b0e-4d2f-8a0e-0f1f2a3b4c5d"
EPOCH = 1712023831
API = "/data/api/3/action"


@pytest.fixture
def ckan(forge: Forge) -> Forge:
    """A CKAN below a folder, with one dataset that was changed after an activity."""
    put(forge)
    forge.pages[f"{API}/activity_data_show"] = recorded("data.depositar.io_api_3_action_activity_data_show").page
    return forge


def put(forge: Forge, **changes: Any) -> None:
    """Change what the dataset is now."""
    package = recorded("data.depositar.io_api_3_action_activity_data_show")
    package.body["result"] |= {"name": "sea-turtles", "metadata_modified": "2024-05-01T00:00:00.999999"} | changes
    forge.pages[f"{API}/package_show"] = package.page


def spec_of(forge: Forge, page: str = f"/dataset/{DATASET}") -> str:
    return quote(f"{forge.url}/data{page}", safe="")


@pytest.mark.parametrize(
    "page",
    [f"/dataset/{DATASET}", f"/dataset/{DATASET}/", f"/dataset/{DATASET}/resource/x", f"/dataset/{DATASET}?a=b#c"],
)
async def test_a_dataset_is_what_it_is_now(ckan: Forge, page: str) -> None:
    async with resolver_of_archives(ckan) as resolver:
        repo = await resolver.repo("ckan", spec_of(ckan, page))
    url = f"{ckan.url}/data/dataset/{DATASET}"
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "ckan",
        "spec": spec_of(ckan, page),
        "repo_url": url,
        "ref": f"{DATASET}.v1714521600",
        "resolved_spec": quote(url, safe=""),
        "ref_url": url,
        "slug": f"ckan-{ckan.url.removeprefix('http://')}/data-{DATASET}",
        "display_name": f"127.0.0.1: {DATASET}",
        "immutable_spec": False,
        "content_provider": "CKAN",
        "ignores_case": False,
    }
    assert [request.path for request in ckan.requests] == [f"{API}/package_show?id={DATASET}"]


@pytest.mark.parametrize(
    "page",
    [f"/dataset/{DATASET}?activity_id={ACTIVITY}", f"/dataset/{DATASET}/history/{ACTIVITY}",
     f"/dataset/{DATASET}/history/{ACTIVITY}?activity_id=other"],
)  # fmt: skip
async def test_an_activity_names_what_the_dataset_was_then(ckan: Forge, page: str) -> None:
    async with resolver_of_archives(ckan) as resolver:
        repo = await resolver.repo("ckan", spec_of(ckan, page))
    url = f"{ckan.url}/data/dataset/{DATASET}?activity_id={ACTIVITY}"
    assert (repo.ref, repo.repo_url, repo.immutable_spec) == (f"{DATASET}.v{EPOCH}", url, True)
    assert repo.resolved_spec == quote(url, safe="")
    assert [request.path for request in ckan.requests] == [
        f"{API}/activity_data_show?id={ACTIVITY}&object_type=package"
    ]


async def test_an_activity_of_another_dataset_is_refused(ckan: Forge) -> None:
    """Else whoever has one dataset of a CKAN could build the image of another one."""
    async with resolver_of_archives(ckan) as resolver:
        problem = await resolver.problem("ckan", spec_of(ckan, f"/dataset/sea-turtles?activity_id={ACTIVITY}"))
        assert (await resolver.repo("ckan", spec_of(ckan, "/dataset/sea-turtles"))).ref == "sea-turtles.v1714521600"
    assert problem.code == "ref_not_found"
    assert "has this activity for another dataset than sea-turtles" in problem.detail


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"private": True}, "are not public, and only public ones can be launched"),
        ({"state": "deleted"}, f"has withdrawn dataset {DATASET}"),
    ],
)
async def test_a_dataset_that_is_private_or_deleted_is_said(ckan: Forge, changes: dict[str, Any], says: str) -> None:
    put(ckan, **changes)
    async with resolver_of_archives(ckan) as resolver:
        problem = await resolver.problem("ckan", spec_of(ckan))
    assert problem.code == "ref_not_found"
    assert says in problem.detail


@pytest.mark.parametrize(
    "body", [{"success": False, "result": {"id": DATASET}}, {"success": True}, {"success": True, "result": []}]
)
async def test_a_reply_that_is_no_dataset_is_not_understood(ckan: Forge, body: object) -> None:
    ckan.pages[f"{API}/package_show"] = reply(body)
    async with resolver_of_archives(ckan) as resolver:
        problem = await resolver.problem("ckan", spec_of(ckan))
    assert problem.code == "provider_unavailable"


@pytest.mark.parametrize("changed_at", [None, 3, "yesterday", ""])
async def test_a_dataset_without_a_time_of_change_is_not_understood(ckan: Forge, changed_at: object) -> None:
    put(ckan, metadata_modified=changed_at)
    async with resolver_of_archives(ckan) as resolver:
        assert (await resolver.problem("ckan", spec_of(ckan))).code == "provider_unavailable"


def test_a_time_without_a_zone_is_utc_wherever_the_resolver_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Taipei")
        time.tzset()
        epochs = [epoch_of(text, "x") for text in ("2024-04-02T02:10:31.780375", "2024-04-02T02:10:31Z")]
    time.tzset()
    assert epochs == [EPOCH, EPOCH]


@pytest.mark.parametrize(
    "address",
    ["https://x.example/", "https://x.example/dataset/", "https://x.example/dataset/a", "https://x.example/datasets/abc",
     "https://x.example/dataset/a b", "https://x.example/dataset/doi:10.5061", "https://x.example/dataset/abc?activity_id=a/b",
     "https://me:secret@x.example/dataset/abc", "ftp://x.example/dataset/abc", "x.example/dataset/abc", ""],
)  # fmt: skip
async def test_what_is_no_address_of_a_dataset_is_refused(ckan: Forge, address: str) -> None:
    async with resolver_of_archives(ckan) as resolver:
        problem = await resolver.problem("ckan", quote(address, safe=""))
    assert problem.code == "bad_spec"
    assert "secret" not in problem.detail


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/dataset/abc", "address_not_allowed"),
        ("http://169.254.169.254/dataset/abc", "address_not_allowed"),
        ("http://[::1]/dataset/abc", "address_not_allowed"),
        ("http://127.0.0.1:1/dataset/abc", "provider_unavailable"),
        ("https://no-such-host.invalid/dataset/abc", "ref_not_found"),
    ],
)
async def test_hosts_that_can_not_be_asked(ckan: Forge, url: str, code: str) -> None:
    async with resolver_of_archives(ckan) as resolver:
        assert (await resolver.problem("ckan", quote(url, safe=""))).code == code


async def test_a_redirect_into_a_private_network_is_not_followed(ckan: Forge) -> None:
    ckan.pages[f"{API}/package_show"] = Page(302, {"Location": "http://10.0.0.1/api/3/action/package_show"})
    async with resolver_of_archives(ckan) as resolver:
        assert (await resolver.problem("ckan", spec_of(ckan))).code == "address_not_allowed"


async def test_a_ban_holds_for_every_way_to_write_a_dataset(ckan: Forge) -> None:
    plain = spec_of(ckan)
    by_https = plain.replace("http%3A", "https%3A")
    pages = (
        f"/dataset/{DATASET}",
        f"/dataset/{DATASET}/",
        f"/dataset/{DATASET}/history/{ACTIVITY}",
        f"/./dataset/{DATASET}",
    )
    for banned in ({"ckan": [f"{plain}$"]}, {"ckan": [by_https]}, {"*": [plain]}):
        async with resolver_of_archives(ckan, banned_specs=banned) as resolver:
            for page in pages:
                assert (await resolver.problem("ckan", spec_of(ckan, page))).code == "banned", (banned, page)
    async with resolver_of_archives(ckan, allowed_specs={"ckan": [plain]}) as resolver:
        await resolver.repo("ckan", spec_of(ckan, f"/dataset/{DATASET}/"))
        assert (await resolver.problem("ckan", spec_of(ckan, "/dataset/other"))).code == "banned"
