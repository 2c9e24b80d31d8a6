"""A server that its hub calls ready, until the proxy leads to it."""

import asyncio
import json

import pytest

from services.common.models import Server, ServerState
from tests.load.stub_http import Answer
from tests.support.in_process_launcher import AS_ALWAYS, NOTHING, FakeHub, Launcher, StartLauncher
from tests.support.polling import until
from tests.support.ports import free_ports


def _answers(status: int, location: str = "") -> Answer:
    body = json.dumps({"code": "server_ended"}).encode()
    return status, "application/problem+json", body, {"Location": location} if location else {}


def _settings(hub: FakeHub, **others: object) -> dict[str, object]:
    url = f"http://127.0.0.1:{hub.port}/"
    return {"hub_checks_proxy": True, "hub_proxy_url": url, "hub_url": "http://servers.example:8000/"} | others


def _looks(hub: FakeHub, server: Server) -> int:
    return hub.calls.count(f"GET /user/{server.user}/api")


async def _failure(launcher: Launcher, server: Server) -> str:
    outcome = await launcher.outcome(server)
    assert outcome.state is ServerState.FAILED
    assert outcome.error
    assert outcome.error.code == "server_unreachable"
    return outcome.error.detail


async def test_one_request_shows_that_the_proxy_leads_to_the_server(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**_settings(hub)) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert hub.calls[-1] == f"GET /user/{server.user}/api"
        assert _looks(hub, server) == 1


async def test_the_server_is_asked_by_its_public_name_and_sees_no_token(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    heads: list[bytes] = []
    handle = hub.handle

    def record(method: str, target: str, head: bytes, body: bytes) -> Answer:
        if target.startswith("/user/"):
            heads.append(head.lower())
        return handle(method, target, head, body)

    hub.handle = record  # type: ignore[method-assign]
    async with start_launcher(**_settings(hub), hub_api_token="of-the-hub") as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
    assert [b"host: servers.example:8000\r\n" in head for head in heads] == [True]
    assert b"authorization" not in heads[0]


async def test_a_launcher_that_may_not_reach_the_proxy_does_not_ask_it(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**_settings(hub, hub_checks_proxy=False)) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert _looks(hub, server) == 0


@pytest.mark.parametrize(
    "missing",
    [_answers(424), _answers(502), _answers(503), _answers(504), _answers(302, "/hub/user/x/api")],
    ids=["gateway", "unreached", "unavailable", "timeout", "hub"],
)
async def test_a_server_is_ready_once_the_proxy_has_learned_of_it(
    start_launcher: StartLauncher, hub: FakeHub, missing: Answer
) -> None:
    hub.answer("GET", "/api", missing, missing, AS_ALWAYS)
    async with start_launcher(**_settings(hub)) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert _looks(hub, server) == 3


@pytest.mark.parametrize("own", [_answers(200), _answers(302, "/user/x/login"), _answers(403), _answers(404)])
async def test_whatever_the_server_itself_answers_it_is_reached(
    start_launcher: StartLauncher, hub: FakeHub, own: Answer
) -> None:
    hub.answer("GET", "/api", own)
    async with start_launcher(**_settings(hub)) as launcher:
        server = await launcher.request_server()
        assert (await launcher.outcome(server)).state is ServerState.READY
        assert _looks(hub, server) == 1


async def test_a_server_that_the_proxy_never_leads_to_fails_and_is_removed(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/api", _answers(424))
    async with start_launcher(**_settings(hub, server_route_seconds=0.3)) as launcher:
        server = await launcher.request_server()
        detail = await _failure(launcher, server)
        assert detail == "The server is ready, but its proxy did not lead to it within 0.3 s (it answered 424)."
        assert _looks(hub, server) > 1
        assert f"DELETE /hub/api/users/{server.user}" in hub.calls


async def test_a_proxy_that_is_away_or_silent_is_not_waited_for_longer(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    away = f"http://127.0.0.1:{free_ports(1, avoid=set())[0]}/"
    async with start_launcher(**_settings(hub, hub_proxy_url=away, server_route_seconds=0.3)) as launcher:
        assert "(no answer (connection refused))" in await _failure(launcher, await launcher.request_server())

    hub.answer("GET", "/api", NOTHING)
    async with start_launcher(**_settings(hub, server_route_seconds=0.3)) as launcher:
        assert "(no answer)" in await _failure(launcher, await launcher.request_server("another"))


async def test_a_launch_can_be_cancelled_while_its_server_has_no_route(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("GET", "/api", _answers(424))
    async with start_launcher(**_settings(hub)) as launcher:
        server = await launcher.request_server()
        await until(lambda: _looks(hub, server) > 1, "the proxy is asked")
        await asyncio.wait_for(launcher.servers.stop(server.server_id), 10)
        outcome = await launcher.outcome(server)
        assert outcome.error
        assert outcome.error.code == "cancelled"
