"""A launch's page as a browser without scripts sees it."""

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.common.models import Cause, LaunchOptions, LaunchState, Queue
from services.common.models.errors import BinderyError
from services.common.models.server import ServerState
from services.gateway.pages.launch_page import duration
from tests.support.fake_gateway import pages_client, token_of
from tests.support.fake_launches import FakeLaunches


@pytest.fixture
async def launches() -> AsyncIterator[FakeLaunches]:
    fake_launches = FakeLaunches("http://127.0.0.1:9000/user/u/")
    yield fake_launches
    await fake_launches.aclose()


@pytest.fixture
async def client(launches: FakeLaunches) -> AsyncIterator[httpx.AsyncClient]:
    async with pages_client(launches) as client:
        yield client


async def _page_of(client: httpx.AsyncClient, launches: FakeLaunches, **fields: Any) -> str:
    return html.unescape((await client.get(f"/launches/{launches.put(**fields)}")).text)


async def test_a_launch_under_way_shows_its_step_renews_itself_and_can_be_cancelled(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    page = await _page_of(client, launches, state=LaunchState.BUILDING, build_id="0123-1", image="i")
    assert re.search(r'<li class="current" data-phase="building"[^>]*aria-current="step"', page)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page
    assert "/api/v1/builds/0123-1/log" in page
    assert "/cancel" in page


async def test_a_queued_launch_says_its_place(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    queue = Queue(reason="busy", position=4, eta_seconds=130)
    page = await _page_of(client, launches, state=LaunchState.WAITING, queue=queue)
    assert "Waiting for a free seat: number 4 in the queue, about 2 min" in page


async def test_an_existing_image_is_reported(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    assert "It was built before" in await _page_of(client, launches, state=LaunchState.LAUNCHING, image="i")


async def test_a_failed_build_says_whose_move_it_is_and_offers_to_build_again(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    error = BinderyError("build_failed", "The installer failed.").problem
    page = await _page_of(client, launches, state=LaunchState.FAILED, error=error, build_id="0123-1")
    assert "The installer failed." in page
    assert "author" in page
    assert 'name="rebuild" value="0123-1"' in page
    assert "Build again" in page
    assert "http-equiv" not in page


async def test_a_failed_build_quotes_its_log_first_as_text_and_links_to_the_line(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    cause = Cause(text="<b>no</b>\nsecond & last", after="17-3.2", rule="last-lines")
    detail = f"{cause.text}\nThese are the last lines of its output. postBuild ended with exit status 1"
    error = BinderyError("build_failed", detail, cause=cause).problem
    launch_id = launches.put(state=LaunchState.FAILED, error=error, build_id="0123-1")
    page = (await client.get(f"/launches/{launch_id}")).text
    assert "&lt;b&gt;no&lt;/b&gt;\nsecond &amp; last\nThese are the last lines" in page
    link = (
        '<a href="/api/v1/builds/0123-1/log?format=text&amp;after=17-3.2" data-after="17-3.2">This line in the log</a>'
    )
    assert link in page


async def test_a_failure_that_no_log_explains_links_to_no_line(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    error = BinderyError("build_timeout", "It took too long.").problem
    page = await _page_of(client, launches, state=LaunchState.FAILED, error=error, build_id="0123-1")
    assert "It took too long." in page
    assert "This line in the log" not in page


async def test_a_wrong_ref_leads_back_to_the_form(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    error = BinderyError("ref_not_found", "There is no such branch.").problem
    page = await _page_of(client, launches, state=LaunchState.FAILED, error=error)
    assert "/?provider=gh&repository=o%2Fr&ref=HEAD" in page
    assert 'name="rebuild"' not in page


async def test_what_may_pass_by_itself_says_when_to_try_again(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    error = BinderyError("quota_exceeded", "All seats are taken.").problem
    assert "Try again in 2 min" in await _page_of(client, launches, state=LaunchState.FAILED, error=error)


async def test_a_ready_launch_opens_its_server_at_the_path_asked_for(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    ready = launches.put(state=LaunchState.READY, options=LaunchOptions(path="doc/tree/a.ipynb"), finished_at=1.0)
    page = (await client.get(f"/launches/{ready}")).text
    assert f'href="/launches/{ready}/open"' in page
    assert "token=T" not in page
    assert 'data-opens="no"' in page
    reply = await client.get(f"/launches/{ready}/open")
    assert reply.status_code == 303
    assert reply.headers["location"] == "http://127.0.0.1:9000/user/u/doc/tree/a.ipynb?token=T"
    assert reply.headers["referrer-policy"] == "no-referrer"


async def test_a_path_that_leads_away_opens_the_server(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    ready = launches.put(state=LaunchState.READY, options=LaunchOptions(path="https://evil.example/x"))
    reply = await client.get(f"/launches/{ready}/open")
    assert reply.headers["location"] == "http://127.0.0.1:9000/user/u/?token=T"


async def test_nobody_is_sent_to_a_hub_that_is_not_ours(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    launches.server_url = "http://evil.example/user/u/"
    reply = await client.get(f"/launches/{launches.put(state=LaunchState.READY)}/open")
    assert reply.status_code == 502
    assert "location" not in reply.headers


async def test_a_server_that_has_ended_is_reported_with_a_button(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    launches.server_state = ServerState.GONE
    ready = launches.put(state=LaunchState.READY)
    page = (await client.get(f"/launches/{ready}")).text
    assert "This server has ended" in page
    assert "Launch again" in page
    assert (await client.get(f"/launches/{ready}/open")).headers["location"] == f"/launches/{ready}"


async def test_cancelling_shows_the_launch_and_twice_does_no_harm(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    launch_id = launches.put(state=LaunchState.BUILDING)
    for _ in range(2):
        reply = await client.post(f"/launches/{launch_id}/cancel", data={"token": await token_of(client)})
        assert (reply.status_code, reply.headers["location"]) == (303, f"/launches/{launch_id}")
    assert launches.launches[launch_id].state is LaunchState.CANCELLED
    assert "cancelled" in (await client.get(f"/launches/{launch_id}")).text


async def test_cancelling_needs_the_token(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    launch_id = launches.put(state=LaunchState.BUILDING)
    assert (await client.post(f"/launches/{launch_id}/cancel", data={"x": "y"})).status_code == 403
    assert launches.launches[launch_id].state is LaunchState.BUILDING


async def test_text_from_elsewhere_is_text(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    error = BinderyError("build_failed", "<script>alert(1)</script> \u202egpj.exe").problem
    page = (await client.get(f"/launches/{launches.put(state=LaunchState.FAILED, error=error)}")).text
    assert "<script>alert" not in page
    assert "\u202e" not in page


async def test_an_unknown_launch_and_what_we_did_not_foresee_are_pages(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/launches/none")
    broken = await client.get("/broken")
    assert (unknown.status_code, broken.status_code) == (404, 500)
    for reply in (unknown, broken):
        assert "To the launch form" in reply.text
        assert "not foreseen" not in reply.text
    assert (await client.get("/api/v1/broken")).json()["code"] == "internal"


async def test_about_says_what_it_is(client: httpx.AsyncClient) -> None:
    assert "This website is powered by Bindery" in (await client.get("/about")).text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h"), (4800, "1 h 20 min")]
)
def test_lengths_of_time_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
