"""All lines of a launch carry its request id and `launch_ref`, in every service, also after an adoption."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import APIRouter

from services.builder.executors.base import Finished
from services.builder.queue.attempts import build_topic
from services.common.models import LaunchState
from services.common.net.http import PooledClient, ServiceClient
from services.common.service.correlation import LAUNCH_HEADER, REQUEST_HEADER, from_fields
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.loops import background_tasks
from services.common.service.settings import ServiceSettings
from services.common.service.tasks import sleep_unless_cancelled
from services.common.web.app import create_service
from services.launcher.servers import server_topic
from tests.support.in_process_builder import open_builder
from tests.support.in_process_gateway import open_gateway
from tests.support.in_process_launcher import open_launcher, running_hub
from tests.support.logs import line_of
from tests.support.scripted_executor import ScriptedExecutor, supervise
from tests.support.settings import settings_for
from tests.support.valkey import Valkey

ID = "f00dcafe12345678"
REF = "0123456789abcdef0123"
TOKEN = "t" * 32


async def line_of_request(logs: io.StringIO, *, public: bool, **headers: str) -> tuple[dict[str, str], str]:
    """The line that a service writes in a request with these headers, and the id in its answer."""
    router = APIRouter()

    @router.get("/work")
    async def work() -> None:
        get_logger("service").info("worked")

    settings = settings_for(ServiceSettings, {"service_token": TOKEN})
    app = create_service(settings, name="test", lifespan=lambda _: background_tasks(), routers=[router], public=public)
    raw_headers = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    raw_headers[b"Authorization"] = f"Bearer {TOKEN}".encode()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        reply = await client.get("/work", headers=raw_headers)
    assert reply.status_code == 200
    return line_of(logs, "worked"), reply.headers[REQUEST_HEADER]


async def test_a_service_takes_over_the_ids_of_the_service_that_asks(logs: io.StringIO) -> None:
    line, request_id = await line_of_request(logs, public=False, X_Request_ID=ID, Bindery_Launch_Ref=REF)
    assert (line["request_id"], line["launch_ref"], request_id) == (ID, REF, ID)


async def test_a_public_service_lets_nobody_say_whose_launch_it_is(logs: io.StringIO) -> None:
    line, request_id = await line_of_request(logs, public=True, X_Request_ID=ID, Bindery_Launch_Ref=REF)
    assert (line["request_id"], request_id) == (ID, ID)
    assert "launch_ref" not in line


@pytest.mark.parametrize(
    "value", ["", "short", "x" * 65, "a b c d e f g", 'id" level="error', "täglich-neu", "id\x0b12345"]
)
async def test_an_id_that_is_not_well_formed_is_replaced(logs: io.StringIO, value: str) -> None:
    line, request_id = await line_of_request(logs, public=False, X_Request_ID=value, Bindery_Launch_Ref=value)
    assert line["request_id"] == request_id != value
    assert len(request_id) == 16
    assert "launch_ref" not in line


@pytest.fixture
async def peer() -> AsyncIterator[tuple[str, list[dict[str, str | None]]]]:
    """A server's address, and the ids that it was sent, request by request."""
    ids_by_request: list[dict[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        ids_by_request.append({name: request.headers.get(name) for name in (REQUEST_HEADER, LAUNCH_HEADER)})
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/")), ids_by_request


async def test_a_call_of_another_service_carries_the_ids(peer: tuple[str, list[dict[str, str | None]]]) -> None:
    url, ids_by_request = peer
    client = ServiceClient(PooledClient(url, peer="test"), service="builder")
    try:
        await client.call("GET", "/")
        with bound_contextvars(request_id=ID, launch_ref=REF):
            await client.call("POST", "/", content="{}", headers={"Accept": "*/*"})
    finally:
        await client.aclose()
    nothing = {REQUEST_HEADER: None, LAUNCH_HEADER: None}
    assert ids_by_request == [nothing, {REQUEST_HEADER: ID, LAUNCH_HEADER: REF}]


async def test_a_call_of_a_hub_registry_or_forge_does_not(peer: tuple[str, list[dict[str, str | None]]]) -> None:
    url, ids_by_request = peer
    client = PooledClient(url, peer="hub")
    try:
        with bound_contextvars(request_id=ID, launch_ref=REF):
            await client.request("GET", "/")
            async with client.stream("/"):
                pass
    finally:
        await client.aclose()
    assert ids_by_request == [{REQUEST_HEADER: None, LAUNCH_HEADER: None}] * 2


@pytest.mark.usefixtures("redis")
async def test_a_launch_keeps_its_ids_when_another_gateway_goes_on_with_it(valkey: Valkey, logs: io.StringIO) -> None:
    async with open_gateway(valkey) as gateway:
        with bound_contextvars(request_id=ID):
            launch = await gateway.begin()
        await gateway.until_build(1)
        await gateway.until_state(launch, LaunchState.BUILDING)
    async with open_gateway(valkey) as other:
        await other.until(lambda: '"event": "adopted"' in logs.getvalue(), "the launch is adopted")
        await other.launches.cancel(launch.launch_id, "anon:x")
        await other.until_ended(launch, LaunchState.CANCELLED)
    line = line_of(logs, "launch_ended")
    assert (line["request_id"], line["launch_ref"]) == (ID, launch.launch_ref)


@pytest.mark.usefixtures("redis")
async def test_a_start_keeps_its_ids_when_another_launcher_goes_on_with_it(valkey: Valkey, logs: io.StringIO) -> None:
    async with running_hub() as hub:
        hub.answer("POST", "/servers/", (429, "application/json", b"{}", {}))
        async with open_launcher(valkey, hub) as launcher:
            with bound_contextvars(request_id=ID):
                server = await launcher.request_server(REF)
            key = launcher.context.keys.record(server_topic(server.server_id))
        hub.answer("POST", "/servers/", (400, "application/json", b"{}", {}))
        async with open_launcher(valkey, hub) as other:
            async with asyncio.timeout(60):
                while await other.context.redis.hget(key, "final") != b"1":
                    await sleep_unless_cancelled(0.01)
    line = line_of(logs, "start_failed")
    assert (line["request_id"], line["launch_ref"]) == (ID, REF)


@pytest.mark.usefixtures("redis")
async def test_the_worker_tells_for_which_launch_it_builds(valkey: Valkey, tmp_path: Path, logs: io.StringIO) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        with bound_contextvars(request_id=ID):
            build = await builder.request_build("repo", launch_ref=REF)
        stored = await builder.context.records.read(build_topic(build.build_id or ""))
        assert stored
        assert from_fields(stored.fields) == {"request_id": ID, "launch_ref": REF}
        await supervise(builder, ScriptedExecutor([Finished(ok=False)]))
    line = line_of(logs, "build_ended")
    assert (line["request_id"], line["launch_ref"]) == (ID, REF)
