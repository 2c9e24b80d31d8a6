"""Access to a build: open to all if its repository is known to be public, also once only its log is left."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from multidict import CIMultiDict
from redis.asyncio import Redis

from services.builder.queue.attempts import build_topic
from services.common.models import BuildState, Visibility
from services.common.models.errors import BinderyError
from services.common.net.reply import Reply
from services.common.redis.keys import Keys
from services.common.service.settings import ServiceSettings
from services.common.streams.entries import Entry
from services.common.streams.log_store import FileLogs, LogStore, RedisLogs, SizedLogs
from services.common.web.problems import install_problem_handlers
from services.gateway.edge.middleware import Edge
from services.gateway.pages.renderer import Pages
from services.gateway.refusals import RefusalRenderer
from services.gateway.routes import builds
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import gateway_context
from tests.support.in_process_builder import Builder, image_of, open_builder, request_for
from tests.support.valkey import Valkey

ID = f"{'0' * 24}-1"
LONG = "x" * 100_000
OPEN = Visibility.PUBLIC
HIDDEN = Visibility.PRIVATE


def entries(first: str = "one") -> list[Entry]:
    payloads = [json.dumps([{"phase": "building", "message": message}]).encode() for message in (first, "two")]
    return [
        Entry(id=f"{number}-0", number=number, lines=number - 1, bytes_before=0, payload=payload)
        for number, payload in enumerate(payloads, start=1)
    ]


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path) as opened:
        yield opened


class EchoBackends:
    """The builder, as a gateway asks it."""

    async def ask_builder(self, _method: str, path: str, **_others: object) -> Reply:
        headers = {"content-type": "text/plain", "bindery-log-position": "2-0.1"}
        return Reply(status=200, headers=CIMultiDict(headers), body=path.encode())


@pytest.fixture
async def client(builder: Builder) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(builds.router)
    install_problem_handlers(app)
    settings = GatewaySettings()
    app.state.context = gateway_context(settings, common=builder.context, backends=EchoBackends())
    app.add_middleware(Edge, settings=settings, refusals=RefusalRenderer(Pages(settings)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bindery.example") as opened:
        yield opened


async def create_ended_build(builder: Builder, visibility: Visibility) -> str:
    """A build that has ended, with its log stored as a worker stores it."""
    request = request_for("repo", "a")
    request = request.updated(repo=request.repo.updated(visibility=visibility))
    build = await builder.attempts.start(image_of("repo", "a"), request)
    assert await builder.attempts.end_queued(build, BuildState.CANCELLED, BinderyError("cancelled"))
    await builder.cleanup.store_log(build.build_id or "")
    return build.build_id or ""


async def statuses(client: httpx.AsyncClient, build_id: str) -> set[int]:
    replies = [await client.get(f"/api/v1/builds/{build_id}/log"), await client.delete(f"/api/v1/builds/{build_id}")]
    return {reply.status_code for reply in replies}


@pytest.mark.parametrize(("visibility", "status"), [(OPEN, 200), (HIDDEN, 404), (Visibility.UNKNOWN, 404)])
async def test_a_log_that_outlives_its_record_is_as_public_as_the_repository_was(
    builder: Builder, client: httpx.AsyncClient, visibility: Visibility, status: int
) -> None:
    build_id = await create_ended_build(builder, visibility)
    assert await statuses(client, build_id) == {status}
    await builder.context.redis.delete(builder.context.keys.record(build_topic(build_id)))
    assert await statuses(client, build_id) == {status}
    refusal = await client.get(f"/api/v1/builds/{ID}/log")
    assert (refusal.status_code, refusal.json()["code"]) == (404, "not_found")
    assert refusal.json()["detail"] == f"There is no build {ID}, or it was too long ago."


async def test_a_record_that_does_not_say_whose_it_is_is_nobodys(builder: Builder, client: httpx.AsyncClient) -> None:
    build_id = await create_ended_build(builder, OPEN)
    await builder.context.redis.hdel(builder.context.keys.record(build_topic(build_id)), "repo")
    assert await statuses(client, build_id) == {404}


@pytest.fixture(params=["redis", "files", "both"])
def logs(request: pytest.FixtureRequest, redis: Redis, tmp_path: Path) -> LogStore:
    settings = ServiceSettings()
    small = RedisLogs(redis, Keys("test"), settings)
    large = FileLogs(tmp_path, settings)
    sized = SizedLogs(small, large, threshold_bytes=1000)
    stores: dict[str, LogStore] = {"redis": small, "files": large, "both": sized}
    return stores[request.param]


@pytest.mark.parametrize("first", ["one", LONG])
async def test_every_store_keeps_whether_a_log_is_public_beside_what_is_in_it(logs: LogStore, first: str) -> None:
    await logs.put("a-1", entries(first), is_public=True)
    await logs.put("b-1", entries(first), is_public=False)
    assert (await logs.is_public("a-1"), await logs.is_public("b-1"), await logs.is_public("c-1")) == (
        True,
        False,
        False,
    )
    assert await logs.read("a-1") == await logs.read("b-1") == entries(first)
    assert await logs.read("a-1", "1-0") == entries(first)[1:]


async def test_a_gateway_s_own_user_of_redis_may_ask_whether_a_log_is_public(valkey: Valkey, redis: Redis) -> None:
    keys = Keys("bindery:default")
    settings = ServiceSettings()
    await RedisLogs(redis, keys, settings).put(ID, entries(), is_public=True)
    async with Redis.from_url(valkey.url_of("gateway")) as gateway:
        assert await RedisLogs(gateway, keys, settings).is_public(ID)


async def test_a_log_of_an_older_version_is_read_and_is_not_known_to_be_public(redis: Redis, tmp_path: Path) -> None:
    rows = [[entry.id, entry.number, entry.lines, entry.bytes_before, entry.payload.decode()] for entry in entries()]
    packed = "\n".join(json.dumps(row) for row in rows).encode()
    await redis.set(Keys("test").log("a-1"), zlib.compress(packed))
    (tmp_path / "a-").mkdir()
    (tmp_path / "a-" / "a-1.jsonl.gz").write_bytes(gzip.compress(packed))
    for logs in (RedisLogs(redis, Keys("test"), ServiceSettings()), FileLogs(tmp_path, ServiceSettings())):
        assert await logs.read("a-1") == entries()
        assert not await logs.is_public("a-1")
