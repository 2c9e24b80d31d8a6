"""What all services have in common for a request: the token ahead of all, bounds of bodies, HEAD, what health says."""

import asyncio
import io
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.responses import StreamingResponse

from services.common.models.errors import BinderyError
from services.common.net.http import PooledClient, ServiceClient
from services.common.service.health import CheckFailure, Health
from services.common.service.loops import BackgroundState, background_state
from services.common.service.settings import ServiceSettings
from services.common.web.app import create_service
from services.gateway.backends import RETRYABLE_CODES
from tests.support.polling import until
from tests.support.serving import SECONDS, Serving, connect, serving
from tests.support.settings import settings_for

TOKEN = "t" * 32
OWN = {"authorization": f"Bearer {TOKEN}"}
MIB = 2**20


@asynccontextmanager
async def _nothing(_app: FastAPI) -> AsyncIterator[None]:
    yield


def service(*, name: str = "test", public: bool = False, health: Health | None = None, **settings: Any) -> FastAPI:
    """A service with a few routes."""
    router = APIRouter()

    @router.post("/echo")
    async def echo(body: dict[str, str]) -> dict[str, str]:
        return body

    @router.get("/thing")
    async def thing() -> dict[str, str]:
        return {"token": "of a server"}

    @router.post("/count")
    async def count(request: Request) -> int:
        request.app.state.count = getattr(request.app.state, "count", 0) + 1
        return int(request.app.state.count)

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            while True:
                yield b"data: 1\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    values = settings_for(ServiceSettings, {"service_token": TOKEN} | settings)
    return create_service(values, name=name, lifespan=_nothing, routers=[router], health=health, public=public)


@asynccontextmanager
async def asking(app: FastAPI, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client:
        yield client


# The token


@pytest.mark.parametrize("authorization", ["", TOKEN, f"Basic {TOKEN}", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x"])
@pytest.mark.parametrize("path", ["/thing", "/openapi.json", "/nothing", "/echo"])
async def test_without_the_token_an_inner_service_shows_nothing_of_itself(path: str, authorization: str) -> None:
    async with asking(service(), authorization=authorization) as client:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            reply = await client.request(method, path)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
            if method != "HEAD":
                assert reply.json()["detail"] == (
                    "Send the services' shared token (BINDERY_SERVICE_TOKEN) as a bearer token."
                )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_with_the_token_everything_is_answered(scheme: str) -> None:
    async with asking(service(), authorization=f"{scheme} {TOKEN}") as client:
        assert (await client.post("/echo", json={"a": "b"})).json() == {"a": "b"}
        assert (await client.get("/openapi.json")).status_code == 200


async def test_a_body_of_64_mb_without_the_token_is_refused_unread() -> None:
    with serving(service()) as server:
        async with connect(server) as wire:
            head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            await wire.send(head % (64 * MIB))
            status, _, body = await wire.answer()  # before a byte of the body is sent
            tracemalloc.start()
            for _ in range(256):
                await wire.send(b"1" * (MIB // 4))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert (status, json.loads(body)["code"]) == (401, "unauthorized")
    assert peak < 4 * MIB


@pytest.mark.parametrize(("method", "path"), [("POST", "/count"), ("GET", "/health")])
async def test_two_services_that_swap_addresses_are_not_taken_for_each_other(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    with serving(service(name="resolver")) as resolver, serving(service(name="builder")) as builder:
        addresses = iter([resolver.port, builder.port])
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", next(addresses)))],
        )
        client = PooledClient("http://builder.example", peer="builder", token=TOKEN)
        call = partial(ServiceClient(client, service="builder").call, method, path)
        with pytest.raises(BinderyError, match="It answered 421") as raised:
            await call()
        assert raised.value.code in RETRYABLE_CODES
        assert (await call()).status == 200  # over a new connection
        await client.aclose()


async def test_answers_between_services_are_not_cached() -> None:
    async with asking(service(), **OWN) as client:
        for path in ("/thing", "/nothing"):
            assert (await client.get(path)).headers["cache-control"] == "no-store"


# Bodies


async def test_a_body_between_services_is_bounded_too() -> None:
    async with asking(service(service_request_max_bytes=100), **OWN) as client:
        for request in ({"content": b'"' + b"x" * 99 + b'"'}, {"content": _chunks(b'"', *[b"x" * 40] * 5)}):
            reply = await client.post("/echo", headers={"content-type": "application/json"}, **request)
            assert (reply.status_code, reply.json()["code"]) == (413, "request_too_large")
            assert reply.json()["detail"] == "A request may have 100 bytes at most."
        assert (await client.post("/echo", json={"a": "x" * 80})).status_code == 200


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


# HEAD


@pytest.mark.parametrize("path", ["/thing", "/nothing", "/openapi.json", "/health", "/metrics"])
async def test_head_is_answered_as_get_is_without_a_body(path: str) -> None:
    async with asking(service(), **OWN) as client:
        reply = await client.get(path)
        only_head = await client.head(path)
    assert (only_head.status_code, only_head.content) == (reply.status_code, b"")
    headers = {name: value for name, value in reply.headers.items() if name not in {"x-request-id", "content-length"}}
    assert {name: only_head.headers[name] for name in headers} == headers
    if path != "/metrics":  # whose numbers have changed meanwhile
        assert only_head.headers["content-length"] == reply.headers["content-length"]


async def test_head_of_a_stream_is_answered_at_once() -> None:
    async with asking(service(), **OWN) as client:
        reply = await client.head("/stream")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"].startswith("text/event-stream")


async def test_over_a_connection_another_request_follows_head() -> None:
    with serving(service()) as server:
        async with connect(server) as wire:
            for path in (b"/stream", b"/thing"):
                await wire.send(
                    b"HEAD %s HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\n\r\n" % (path, TOKEN.encode())
                )
                head = await wire.head()
                assert head[0] == 200
            await wire.send(b"GET /thing HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\n\r\n" % TOKEN.encode())
            assert (await wire.answer())[2] == b'{"token":"of a server"}'


async def test_only_get_is_asked_with_head() -> None:
    async with asking(service(), **OWN) as client:
        assert (await client.head("/echo")).status_code == 405
        refusal = await client.post("/thing")
    assert set(refusal.headers["allow"].split(", ")) == {"GET", "HEAD"}


# Health and metrics


async def health_of(health: Health, **headers: str) -> tuple[dict[str, Any], str]:
    await health.check_now()
    async with asking(service(health=health), **headers) as client:
        reply = await client.get("/health")
    assert reply.status_code == 503
    return {row["service"]: row for row in reply.json()["checks"]}, reply.text


async def test_a_warning_is_told_and_makes_no_service_unhealthy() -> None:
    async def forges() -> CheckFailure:
        return CheckFailure("a token runs out", "Few requests are left.", is_warning=True)

    health = Health()
    health.add("Forges", forges)
    await health.check_now()
    async with asking(service(health=health)) as client:
        reply = await client.get("/health")
    assert reply.status_code == 200
    assert reply.json() == {
        "ok": True, "checks": [{"service": "Forges", "ok": True, "message": "Few requests are left."}],
    }  # fmt: skip


async def test_health_tells_anybody_what_is_wrong_and_only_the_operator_where(logs: io.StringIO) -> None:
    async def redis() -> str | None:
        raise RedisConnectionError("Error 111 connecting to 10.3.0.7:6379.")

    async def launcher() -> CheckFailure:
        return CheckFailure("JupyterHub API: no answer of hub.internal", "not well: JupyterHub API")

    async def well() -> None:
        return None

    health = Health()
    for check in (redis, launcher, well):
        health.add(check.__name__, check)
    rows, text = await health_of(health)
    assert (rows["redis"]["ok"], rows["launcher"]["message"]) == (False, "not well: JupyterHub API")
    assert rows["redis"]["message"] == "It does not work as it should; the log of this service says more."
    assert rows["well"] == {"service": "well", "ok": True}
    assert "10.3.0.7" not in text
    assert "hub.internal" not in text
    rows, _ = await health_of(health, **OWN)
    assert rows["redis"]["message"] == "ConnectionError: Error 111 connecting to 10.3.0.7:6379."
    assert rows["launcher"]["message"] == "JupyterHub API: no answer of hub.internal"
    lines = [line for line in logs.getvalue().splitlines() if "health_changed" in line]
    assert sum("10.3.0.7:6379" in line for line in lines) == sum("hub.internal" in line for line in lines) == 1
    assert {json.loads(line)["level"] for line in lines if "well" not in json.loads(line)["check"]} == {"warning"}


async def test_metrics_require_their_token_if_one_is_set() -> None:
    async with asking(service(metrics_token="for prometheus", public=True)) as client:
        refusal = await client.get("/metrics")
        assert (refusal.status_code, refusal.headers["www-authenticate"]) == (401, "Bearer")
        assert "BINDERY_METRICS_TOKEN" in refusal.json()["detail"]
        reply = await client.get("/metrics", headers={"authorization": "Bearer for prometheus"})
        assert "bindery_http_requests_total" in reply.text
        assert (await client.get("/health")).status_code in {200, 503}
    async with asking(service()) as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_metrics_tell_how_many_tasks_the_process_has() -> None:
    async def number_of_tasks(client: httpx.AsyncClient) -> int:
        lines = (await client.get("/metrics")).text.splitlines()
        return int(float(next(line for line in lines if line.startswith("bindery_tasks ")).split()[1]))

    async with asking(service()) as client:
        before = await number_of_tasks(client)
        sleeping = [asyncio.create_task(asyncio.sleep(60)) for _ in range(2)]
        assert await number_of_tasks(client) == before + 2
        for task in sleeping:
            task.cancel()


async def test_a_stranger_is_refused_at_once_while_a_service_starts() -> None:
    """What would be held for long must not be everybody's."""
    background_state().start_problem = "Redis does not answer."
    async with asyncio.timeout(SECONDS), asking(service(start_hold_seconds=3600)) as client:
        assert (await client.get("/thing")).status_code == 401


async def test_so_many_requests_wait_for_a_start_and_no_more() -> None:
    background_state().start_problem = "Redis does not answer."
    app = service(start_hold_seconds=3600, start_held_max=2)
    async with asyncio.timeout(SECONDS), asking(app, **OWN) as client, asyncio.TaskGroup() as group:
        replies = [group.create_task(client.get("/thing")) for _ in range(5)]
        await until(lambda: sum(reply.done() for reply in replies) == 3, "all but two are answered")
        assert {reply.result().status_code for reply in replies if reply.done()} == {503}
        background_state().start_problem = ""
        background_state().start_ended.set()
    assert sorted(reply.result().status_code for reply in replies) == [200, 200, 503, 503, 503]


@asynccontextmanager
async def starting(**settings: Any) -> AsyncIterator[tuple[Serving, Callable[[], object]]]:
    """Serve a service that has not started; what comes second ends its start."""
    states: list[BackgroundState] = []

    def begin() -> None:
        states.append(background_state())
        states[0].start_problem = "Redis does not answer."

    def end() -> None:
        states[0].start_problem = ""
        states[0].start_ended.set()

    with serving(service(start_hold_seconds=3600, **settings)) as server:
        server.loop.call_soon_threadsafe(begin)
        await until(lambda: bool(states), "it starts")
        yield server, lambda: server.loop.call_soon_threadsafe(end)


def post(path: str, *headers: str, body: str = "") -> bytes:
    """Return a request with the service token; its size is in `headers`, or that of `body`."""
    head = [f"POST {path} HTTP/1.1", "host: a", f"authorization: Bearer {TOKEN}", "content-type: application/json"]
    return "\r\n".join([*head, *(headers or [f"content-length: {len(body)}"]), "", body]).encode()


async def until_held(server: Serving, number: int) -> None:
    """Wait until so many requests have come and are not answered."""
    await until(lambda: len(server.server_state.tasks) == number, f"{number} wait")


@pytest.mark.parametrize("body", ["", '{"a": "b"}'])
async def test_a_request_whose_client_goes_while_it_waits_is_dropped(body: str) -> None:
    """What it asked for would be done for nobody, and there would be no room for those who wait."""
    async with starting(start_held_max=1) as (server, end_start):
        async with connect(server) as wire:
            await wire.send(post("/count", body=body))
            await until_held(server, 1)
        await until_held(server, 0)

        async with connect(server) as wire:
            await wire.send(post("/count", body=body))
            await until_held(server, 1)
            end_start()
            assert (await wire.answer())[::2] == (200, b"1")


@pytest.mark.parametrize("sent", [0, 5, 10])
async def test_a_request_that_has_waited_arrives_whole(sent: int) -> None:
    request = post("/echo", body='{"a": "b"}')
    sent += len(request) - 10
    async with starting() as (server, end_start), connect(server) as wire:
        await wire.send(request[:sent])
        await until_held(server, 1)
        end_start()
        await wire.send(request[sent:])
        status, _, body = await wire.answer()
    assert (status, json.loads(body)) == (200, {"a": "b"})


async def test_a_request_that_waits_is_not_told_to_send_a_body_that_is_too_large() -> None:
    async with starting() as (server, end_start), connect(server) as wire:
        await wire.send(post("/echo", f"content-length: {64 * MIB}", "expect: 100-continue"))
        await until_held(server, 1)
        end_start()
        assert (await wire.head())[0] == 413
