"""`POST /api/v1/detect`, and the form that reads addresses as it does."""

import html
from collections.abc import AsyncIterator

import httpx
import pytest

from services.common.models.errors import BinderyError
from tests.support.fake_gateway import OWN, FakeBackends, pages_client, token_of
from tests.support.fake_launches import FakeLaunches

TREE = "https://github.com/ann/notes/tree/wip/me"
GUESSED = f"{OWN}/v2/gh/ann/notes/wip?urlpath=%2Flab%2Ftree%2Fme"
SILENT = BinderyError("rate_limited", "github.com asks for fewer requests.")


@pytest.fixture
async def launches() -> AsyncIterator[FakeLaunches]:
    fake_launches = FakeLaunches("http://127.0.0.1:9000/user/u/")
    yield fake_launches
    await fake_launches.aclose()


async def detect(client: httpx.AsyncClient, address: str, **body: str) -> httpx.Response:
    return await client.post("/api/v1/detect", json={"address": address, **body})


async def test_an_address_becomes_what_a_launch_takes(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        reply = await detect(client, "https://github.com/ann/notes/blob/main/a%20b.ipynb?plain=1#L3")
    assert reply.status_code == 200
    assert reply.json() == {
        "provider": "gh",
        "spec": "ann/notes/main",
        "path": "/doc/tree/a%20b.ipynb",
        "repository": "ann/notes",
        "ref": "main",
        "link": f"{OWN}/v2/gh/ann/notes/main?urlpath=%2Fdoc%2Ftree%2Fa%2520b.ipynb",
        "notice": None,
        "is_guess": False,
    }
    assert launches.requests == []


async def test_a_link_that_was_detected_is_detected_as_itself(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        first = (await detect(client, "https://gitlab.com/team/notes/-/merge_requests/3")).json()
        assert (await detect(client, first["link"])).json() == first
    assert (first["provider"], first["spec"]) == ("gl", "team%2Fnotes/refs/merge-requests/3/head")


async def test_the_chosen_type_decides_where_there_are_several(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        assert (await detect(client, "https://github.com/a/b", provider="git")).json()["provider"] == "git"
        reply = await detect(client, "https://github.com/a/b", provider="svn")
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_provider")


async def test_the_forge_is_asked_where_the_branch_ends(launches: FakeLaunches) -> None:
    backends = FakeBackends("wip/me")
    async with pages_client(launches, backends) as client:
        assert (await detect(client, TREE)).json()["spec"] == "ann/notes/wip/me"
        page = (await client.get("/", params={"provider": "gh", "repository": TREE})).text
    assert f'value="{OWN}/v2/gh/ann/notes/wip/me"' in page
    assert len(backends.questions) == 2


async def test_what_could_not_be_asked_is_told(launches: FakeLaunches) -> None:
    async with pages_client(launches, FakeBackends(failure=SILENT)) as client:
        found = (await detect(client, TREE)).json()
        page = html.unescape((await client.get("/", params={"provider": "gh", "repository": TREE})).text)
    assert (found["link"], found["is_guess"]) == (GUESSED, True)
    assert "asks for fewer requests" in found["notice"]
    assert f'value="{GUESSED}"' in page
    assert "asks for fewer requests" in page


async def test_a_guess_is_not_launched_before_a_person_has_seen_it(launches: FakeLaunches) -> None:
    async with pages_client(launches, FakeBackends(failure=SILENT)) as client:
        fields = {"provider": "gh", "repository": TREE}
        asked = await client.post("/launches", data=fields | {"token": await token_of(client)})
        assert asked.status_code == 200
        assert 'role="alert"' in asked.text
        assert 'name="ref" type="text" value="wip"' in asked.text
        assert launches.requests == []

        again = await client.post("/launches", data=fields | {"token": await token_of(client), "ref": "wip"})
    assert again.status_code == 303
    assert [request["spec"] for request in launches.requests] == ["gh/ann/notes/wip"]
    assert launches.requests[0]["options"].path == "lab/tree/me"


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("https://github.com/ann/notes/issues/3", 400, "bad_spec"),
        ("ann", 400, "bad_spec"),
        ("https://mybinder.org/v2/ckan/x/y", 404, "unknown_provider"),
        (TREE, 404, "ref_not_found"),
    ],
)
async def test_what_is_no_repositorys_page_is_refused(
    launches: FakeLaunches, address: str, status: int, code: str
) -> None:
    async with pages_client(launches, FakeBackends("main")) as client:
        reply = await detect(client, address)
        page = await client.get("/", params={"provider": "gh", "repository": address})
        sent = await client.post("/launches", data={"token": await token_of(client), "repository": address})
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert (page.status_code, sent.status_code) == (200, status)
    assert reply.json()["detail"] in html.unescape(page.text)
    assert reply.json()["detail"] in html.unescape(sent.text)
    assert 'data-testid="launch-url"' not in page.text
    assert launches.requests == []


async def test_a_body_without_an_address_or_with_too_long_a_one_is_refused(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        assert (await detect(client, "")).json()["code"] == "bad_spec"
        assert (await detect(client, "x" * 5000)).status_code == 422
        assert (await client.post("/api/v1/detect", json={})).status_code == 422


async def test_a_request_of_another_site_asks_no_forge(launches: FakeLaunches) -> None:
    backends = FakeBackends("wip")
    async with pages_client(launches, backends) as client:
        reply = await client.post("/api/v1/detect", json={"address": TREE}, headers={"origin": "https://evil.example"})
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")
    assert backends.questions == []
