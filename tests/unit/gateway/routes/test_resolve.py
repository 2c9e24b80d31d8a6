"""`POST /api/v1/resolve` and `GET /api/v1/providers`: what can be launched, and what a link means."""

from collections.abc import AsyncIterator

import pytest

from services.common.models.errors import BinderyError
from tests.support.fake_gateway import OWN, FakeBackends, pages_client
from tests.support.fake_launches import FakeLaunches
from tests.support.in_process_launcher import REPO
from tests.support.sample_providers import BY_ID


@pytest.fixture
async def launches() -> AsyncIterator[FakeLaunches]:
    fake_launches = FakeLaunches("http://127.0.0.1:9000/user/u/")
    yield fake_launches
    await fake_launches.aclose()


async def test_a_link_means_a_commit_and_nothing_is_launched(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        reply = await client.post("/api/v1/resolve", json={"provider": "gh", "spec": "ann/notes/main"})
    assert reply.status_code == 200
    assert reply.json() == {
        "provider": "gh",
        "spec": "ann/notes/main",
        "repo_url": REPO.repo_url,
        "ref": REPO.ref,
        "ref_url": REPO.ref_url,
        "resolved_spec": REPO.resolved_spec,
        "display_name": REPO.display_name,
        "link": f"{OWN}/v2/gh/{REPO.resolved_spec}",
        "visibility": "public",
        "notice": None,
    }
    assert launches.requests == []


@pytest.mark.parametrize(
    ("provider", "spec", "status", "code"),
    [("gh", "ann", 400, "bad_spec"), ("svn", "ann/notes/main", 404, "unknown_provider")],
)
async def test_what_is_no_link_is_refused_unasked(
    launches: FakeLaunches, provider: str, spec: str, status: int, code: str
) -> None:
    backends = FakeBackends(failure=AssertionError("the resolver is asked"))
    async with pages_client(launches, backends) as client:
        reply = await client.post("/api/v1/resolve", json={"provider": provider, "spec": spec})
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_the_resolvers_reason_is_passed_on(launches: FakeLaunches) -> None:
    backends = FakeBackends(failure=BinderyError("ref_not_found", "There is no branch wip in ann/notes."))
    async with pages_client(launches, backends) as client:
        reply = await client.post("/api/v1/resolve", json={"provider": "gh", "spec": "ann/notes/wip"})
    assert (reply.status_code, reply.json()["detail"]) == (404, "There is no branch wip in ann/notes.")


async def test_the_providers_say_how_their_links_look(launches: FakeLaunches) -> None:
    async with pages_client(launches) as client:
        providers = (await client.get("/api/v1/providers")).json()
    assert [each["id"] for each in providers] == list(BY_ID)
    assert next(each for each in providers if each["id"] == "git") == {
        "id": "git",
        "name": "Git repository",
        "spec": "<percent-encoded URL>/<ref>",
        "example": "http://git.example.com/repo",
        "has_ref": True,
        "default_ref": "HEAD",
        "is_url_encoded": True,
    }
    assert (providers[-1]["has_ref"], providers[-1]["default_ref"]) == (False, "")
