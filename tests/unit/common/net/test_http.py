"""Calls between services: what is sent, and which error each failure of the other side becomes."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import REGISTRY
from yarl import URL

from services.common.models.errors import BinderyError
from services.common.models.problem import PROBLEM_MEDIA_TYPE
from services.common.net.http import PeerUnreachable, PooledClient, ServiceClient, only_dict, unix_socket
from services.common.service.call_accounting import attributed_to
from services.common.service.correlation import SERVICE_HEADER


class Peer:
    """A server that gives one answer to all requests, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.breaks_off = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.breaks_off:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"the beginning")
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[URL]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", peer.answer)
    async with TestServer(app) as server:
        yield server.make_url("/")


@pytest.fixture
async def peer() -> AsyncIterator[tuple[str, Peer]]:
    """The address of a server, and what it answers."""
    peer = Peer()
    async with serving(peer) as url:
        yield str(url), peer


@asynccontextmanager
async def pooled(url: str, **options: Any) -> AsyncIterator[PooledClient]:
    client = PooledClient(url, peer="test", **options)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def service_client(url: str) -> AsyncIterator[ServiceClient]:
    client = ServiceClient(PooledClient(url, peer="test", connect_seconds=0.5), service="builder")
    try:
        yield client
    finally:
        await client.aclose()


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def calls_for_work() -> float:
    labels = {"peer": "test", "doing": "work"}
    return REGISTRY.get_sample_value("bindery_http_calls_total", labels) or 0.0


async def test_a_request_has_the_token_the_query_and_the_body(peer: tuple[str, Peer]) -> None:
    url, server = peer
    async with pooled(url, token="secret", scheme="token") as client:
        reply = await client.request(
            "POST", "a%2Fb/c", json_body=b'{"d": 1}', params={"e": "f g"}, headers={"X-Extra": "h"}
        )
    assert reply.is_success
    assert reply.json() == {}
    (request,) = server.requests
    assert (request.method, request.raw_path) == ("POST", "/a%2Fb/c?e=f+g")
    assert request.headers["Authorization"] == "token secret"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Extra"] == "h"
    assert server.bodies == [b'{"d": 1}']


async def test_a_whole_url_is_called_as_it_is(peer: tuple[str, Peer]) -> None:
    url, server = peer
    async with pooled("http://127.0.0.1:1") as client:
        assert (await client.request("GET", f"{url}elsewhere")).status == 200
    assert server.requests[0].path == "/elsewhere"
    assert "Authorization" not in server.requests[0].headers


async def test_a_redirect_is_a_reply_like_any_other(peer: tuple[str, Peer]) -> None:
    url, server = peer
    server.status = 302
    server.headers = {"Location": "/elsewhere"}
    async with pooled(url) as client:
        reply = await client.request("GET", "/")
    assert (reply.status, reply.headers["location"], reply.is_success) == (302, "/elsewhere", False)
    assert len(server.requests) == 1


async def test_a_cookie_is_not_sent_back(peer: tuple[str, Peer]) -> None:
    url, server = peer
    server.headers = {"Set-Cookie": "a=b"}
    async with pooled(url) as client:
        for _ in range(2):
            await client.request("GET", "/")
    assert ["Cookie" in request.headers for request in server.requests] == [False, False]


async def test_a_call_is_counted_by_peer_and_reason(peer: tuple[str, Peer]) -> None:
    url, _ = peer
    before = calls_for_work()
    async with pooled(url) as client:
        with attributed_to("work"):
            await client.request("GET", "/")
            async with client.stream("/"):
                pass
    assert calls_for_work() == before + 2


async def test_a_peer_is_found_at_its_new_address_while_another_program_has_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    another, moved = Peer(), Peer()
    another.headers = {"Connection": "close"}
    async with serving(another) as old, serving(moved) as new, pooled("http://builder.example") as client:
        found = iter([(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", url.port)) for url in (old, new)])
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [next(found)])
        for _ in range(2):
            await client.request("GET", "/")
    assert [len(peer.requests) for peer in (another, moved)] == [1, 1]


async def test_a_peer_that_is_away_is_unreachable() -> None:
    async with pooled(unused_address()) as client:
        with pytest.raises(PeerUnreachable, match="connection refused"):
            await client.request("GET", "/")
        with pytest.raises(PeerUnreachable, match="connection refused"):
            async with client.stream("/"):
                pass


async def test_a_peer_whose_name_is_wrong_is_said_to_have_an_unknown_name() -> None:
    async with pooled("http://builder.invalid") as client:
        with pytest.raises(PeerUnreachable, match="its name is not known"):
            await client.request("GET", "/")


async def test_a_body_that_breaks_off_is_an_unreachable_peer(peer: tuple[str, Peer]) -> None:
    url, server = peer
    server.breaks_off = True
    async with pooled(url) as client:
        with pytest.raises(PeerUnreachable):
            await client.request("GET", "/")
        with pytest.raises(PeerUnreachable):
            async with client.stream("/") as reply:
                await reply.read()


async def test_a_service_s_problem_is_the_caller_s_error(peer: tuple[str, Peer]) -> None:
    url, server = peer
    problem = BinderyError("overloaded", "There is no room.", retry_after_seconds=7.0).problem
    server.status = problem.status
    server.headers = {"Content-Type": f"{PROBLEM_MEDIA_TYPE}; charset=utf-8"}
    server.body = problem.model_dump_json().encode()
    async with service_client(url) as client:
        with pytest.raises(BinderyError) as raised:
            await client.call("POST", "/builds", content="{}")
    error = raised.value
    assert (error.code, error.detail, error.retry_after_seconds) == ("overloaded", "There is no room.", 7.0)


async def test_a_failure_without_a_problem_is_an_unavailable_service(peer: tuple[str, Peer]) -> None:
    url, server = peer
    server.status = 502
    async with service_client(url) as client:
        with pytest.raises(BinderyError, match=r"It answered 502\.") as raised:
            await client.call("GET", "/")
    assert raised.value.code == "builder_unavailable"


async def test_a_call_says_which_service_it_is_meant_for(peer: tuple[str, Peer]) -> None:
    url, server = peer
    server.body = json.dumps({"ok": True, "checks": []}).encode()
    async with service_client(url) as client:
        await client.call("GET", "/", headers={"X-Extra": "h"})
        await client.health()
    assert [request.headers[SERVICE_HEADER] for request in server.requests] == ["builder", "builder"]


async def test_a_service_that_is_away_is_unavailable() -> None:
    async with service_client(unused_address()) as client:
        for call in (client.call("GET", "/"), client.health()):
            with pytest.raises(BinderyError, match="No answer") as raised:
                await call
            assert raised.value.code == "builder_unavailable"


@pytest.mark.parametrize("status", [200, 503])
async def test_a_health_report_is_read_at_any_status(peer: tuple[str, Peer], status: int) -> None:
    url, server = peer
    rows = [{"service": "Redis", "ok": status == 200}]
    server.status = status
    server.body = json.dumps({"ok": status == 200, "checks": rows}).encode()
    async with service_client(url) as client:
        assert await client.health() == rows
    assert server.requests[0].path == "/health"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]"])
async def test_a_reply_that_is_not_a_health_report_is_an_unavailable_service(
    peer: tuple[str, Peer], body: bytes
) -> None:
    url, server = peer
    server.body = body
    async with service_client(url) as client:
        with pytest.raises(BinderyError, match="No answer") as raised:
            await client.health()
    assert raised.value.code == "builder_unavailable"


def test_the_path_of_a_socket_is_decoded_and_absolute() -> None:
    assert unix_socket("unix:///run/bindery/a%20b.socket") == "/run/bindery/a b.socket"
    assert unix_socket("http://localhost:8000") == ""
    with pytest.raises(ValueError, match="names no absolute path"):
        unix_socket("unix://run/bindery/its.socket")


@pytest.mark.parametrize(("value", "expected"), [({"a": 1}, {"a": 1}), ([], {}), (None, {}), ("{}", {})])
def test_only_an_object_is_taken_for_one(value: object, expected: dict[str, int]) -> None:
    assert only_dict(value) == expected
