"""The façade's own decisions: which launch a request follows."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.responses import PlainTextResponse, Response

from services.common.models import Launch, LaunchState
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.web.incoming import HeadRequests
from services.gateway.backends import Providers
from services.gateway.edge.build_tokens import create_build_token
from services.gateway.edge.middleware import Edge
from services.gateway.pages.renderer import Pages
from services.gateway.refusals import RefusalRenderer
from services.gateway.routes import facade
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.launch_stream import LaunchPosition
from tests.support.fake_gateway import OWN, fake_providers, gateway_context
from tests.support.fake_launches import FakeLaunches
from tests.support.sample_providers import PROVIDERS
from tests.support.settings import settings_for
from tests.unit.gateway.edge.test_build_tokens import request_of


class OfPrincipals(FakeLaunches):
    """Launches that are shown to whom the real ones are."""

    async def read(self, launch_id: str, principal: str) -> Launch:
        launch = await super().read(launch_id, principal)
        if not launch.principal.startswith("anon:") and launch.principal != principal:
            raise BinderyError("not_found")
        return launch


class StreamResponses:
    """Tells which launch would be followed from where."""

    def facade(self, position: LaunchPosition) -> Response:
        return PlainTextResponse(f"{position.launch_id} {position.events}")


def facade_settings(**overrides: Any) -> GatewaySettings:
    return settings_for(GatewaySettings, {"installation_secret": "s" * 32, "public_url": OWN} | overrides)


@asynccontextmanager
async def the_facade(launches: FakeLaunches, **overrides: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    settings = facade_settings(**overrides)
    app.state.context = gateway_context(
        settings,
        launches=launches,
        providers=fake_providers(),
        streams=StreamResponses(),
        pages=Pages(settings),
    )
    app.include_router(facade.router)
    app.add_middleware(HeadRequests)
    app.add_middleware(Edge, settings=settings, refusals=RefusalRenderer(Pages(settings)))
    headers = {"accept": "text/event-stream"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OWN, headers=headers) as client:
        yield client
    await launches.aclose()


async def get(client: httpx.AsyncClient, last_id: str = "", **query: str) -> list[str]:
    reply = await client.get("/build/gh/o/r/HEAD", params=query, headers={"last-event-id": last_id})
    return reply.text.split(" ")


async def test_a_launch_is_resumed_by_who_may_see_it() -> None:
    launches = OfPrincipals("")
    launch_id = launches.put()
    async with the_facade(launches) as client:
        assert await get(client, f"{launch_id}~5-0.2~-") == [launch_id, "2"]
    assert not launches.requests


async def test_a_launch_is_resumed_at_a_gateway_that_has_begun_while_no_resolver_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answers_nobody(_: object) -> Any:
        raise BinderyError("resolver_unavailable")

    monkeypatch.setattr(Providers, "ids", answers_nobody)
    launches = OfPrincipals("")
    launch_id = launches.put()
    async with the_facade(launches) as client:
        assert await get(client, f"{launch_id}~5-0.2~-") == [launch_id, "2"]
        assert "resolver" in (await client.get("/build/gh/o/r/HEAD")).text
    assert not launches.requests


@pytest.mark.parametrize("made_up", ["", "nonsense", "nothing~5-0.2~-"])
async def test_an_id_that_is_not_a_launch_of_ours_begins_a_launch(made_up: str) -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        followed = await get(client, made_up)
    assert followed == [*launches.launches, "0"]


async def test_a_launch_of_somebody_else_is_not_resumed() -> None:
    launches = OfPrincipals("")
    launch_id = launches.put(principal="user:somebody")
    async with the_facade(launches) as client:
        followed, events = await get(client, f"{launch_id}~5-0.2~-")
    assert followed != launch_id
    assert events == "0"
    assert len(launches.requests) == 1


async def test_a_pages_token_joins_its_launch_while_that_lasts() -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        token = create_build_token(request_of("127.0.0.1:8585"), facade_settings(), "gh", "o/r/HEAD")
        first = await get(client, build_token=token)
        assert await get(client, build_token=token) == first
        launches.launches[first[0]] = launches.launches[first[0]].updated(state=LaunchState.FAILED)
        assert await get(client, build_token=token) != first
    assert len(launches.requests) == 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RedisConnectionError("Connection refused."), 503, "redis_unavailable"),
        (BinderyError("resolver_unavailable"), 503, "resolver_unavailable"),
        (RuntimeError("nobody foresaw this"), 500, "internal"),
    ],
)
async def test_an_unexpected_error_is_one_failed_event_without_internal_details(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: ErrorCode
) -> None:
    async def fails(*_: object, **__: object) -> Any:
        raise error

    launches = OfPrincipals("")
    monkeypatch.setattr(launches, "start", fails)
    async with the_facade(launches) as client:
        reply = await client.get("/build/gh/o/r/HEAD")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream")
    (event,) = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]
    assert (event["phase"], event["status_code"]) == ("failed", status)
    assert event["message"] == f"{BinderyError(code).detail}\n"
    assert "foresaw" not in reply.text


@pytest.mark.parametrize(
    "spec",
    [
        "https%3A//x.example/ann/notes.git/wip/plots",
        "https://x.example/ann/notes.git/wip/plots",
        "https:/x.example/ann/notes.git/wip/plots",
        "https%3A%2F%2Fx.example%2Fann%2Fnotes.git/wip/plots",
    ],
)
async def test_a_link_that_was_changed_on_its_way_is_launched_as_it_was_meant(spec: str) -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        assert (await client.get(f"/build/git/{spec}")).status_code == 200
    assert [request["spec"] for request in launches.requests] == [
        "git/https%3A%2F%2Fx.example%2Fann%2Fnotes.git/wip/plots"
    ]


async def test_repository_types_are_told_in_binderhubs_shape() -> None:
    async with the_facade(OfPrincipals("")) as client:
        configs = (await client.get("/api/repoproviders")).json()
    assert [config["id"] for config in configs] == [config["id"] for config in PROVIDERS]
    assert not [config for config in configs if "sites" in config]
    assert configs[0]["detect"] == {"regex": "^(https?://github.com/)?(?<repo>.*[^/])/?"}


async def test_head_begins_nothing() -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        for path in ("/build/gh/o/r/HEAD", "/build/nope/x"):
            assert (await client.head(path)).status_code == 200
    assert not launches.requests


SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/15.6 Safari/605.1.15"


@pytest.mark.parametrize("agent", [SAFARI, "mozilla/5.0", "Opera/9.80 (X11; Linux) Presto/2.12.388"])
@pytest.mark.parametrize(
    "page",
    ["", "https://evil.example/", f"{OWN}.evil.example/", "about:blank", f"https://evil.example/?{OWN}/", "http://["],
)
async def test_a_browser_that_does_not_say_which_page_asks_begins_nothing(agent: str, page: str) -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        headers = {"user-agent": agent} | ({"referer": page} if page else {})
        reply = await client.get("/build/gh/o/r/HEAD", headers=headers)
    (event,) = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]
    assert (event["phase"], event["status_code"]) == ("failed", 403)
    assert "does not say which web site asked" in event["message"]
    assert "User-Agent" in event["message"], "a program that calls itself a browser reads what to do"
    assert not launches.requests


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "curl/8.5.0"},
        {"user-agent": ""},
        {"user-agent": SAFARI, "referer": f"{OWN}/v2/gh/o/r/HEAD"},
        {"user-agent": SAFARI, "referer": "https://thebe.example/page"},
        {"user-agent": SAFARI, "sec-fetch-site": "same-origin"},
        {"user-agent": SAFARI, "origin": "https://thebe.example"},
    ],
)
async def test_programs_and_pages_that_are_known_begin_a_launch(headers: dict[str, str]) -> None:
    launches = OfPrincipals("")
    async with the_facade(launches, allowed_origins="https://thebe.example") as client:
        assert (await client.get("/build/gh/o/r/HEAD", headers=headers)).text.split(" ") == [*launches.launches, "0"]


async def test_an_old_browser_begins_a_launch_by_a_pages_token() -> None:
    launches = OfPrincipals("")
    async with the_facade(launches) as client:
        token = create_build_token(request_of("127.0.0.1:8585"), facade_settings(), "gh", "o/r/HEAD")
        client.headers["user-agent"] = SAFARI
        assert await get(client, build_token=token) == [*launches.launches, "0"]
