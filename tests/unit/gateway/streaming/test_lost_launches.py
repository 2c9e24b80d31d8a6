"""A launch that Redis has lost: its followers are told so, unless a gateway that lives writes it again."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from services.common.context import ProcessContext
from services.common.models import LaunchState
from services.common.redis.keys import Kind, Topic
from services.common.streams.reader import LOST_AFTER_CHECKS, Reader
from services.gateway.backends import Backends
from services.gateway.launches.launches import Launches
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.launch_stream import LaunchPosition
from services.gateway.streaming.send_scheduler import SendScheduler
from services.gateway.streaming.stream_responses import StreamResponses
from tests.support.in_process_gateway import open_gateway
from tests.support.launch_followers import BUILD_ID, LAUNCH, a_build, a_launch, opens
from tests.support.polling import until
from tests.support.settings import settings_for
from tests.support.valkey import Valkey, another_context, member_of

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.slow]

SETTINGS = settings_for(GatewaySettings, {"linger_seconds": 0.0})
FORMATS = ["v1", "facade"]


class Client:
    """A client that follows a stream until that ends."""

    def __init__(self, response: Any) -> None:
        self.content = b""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        self.task = asyncio.create_task(response(scope, self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.content += message.get("body", b"")

    async def until(self, text: str) -> None:
        await until(lambda: text.encode() in self.content, f"{text} in {self.content!r}", seconds=10)

    async def events(self) -> list[dict[str, Any]]:
        """Return all events, once the stream has ended."""
        async with asyncio.timeout(60):
            await self.task
        lines = self.content.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def responses(context: ProcessContext) -> StreamResponses:
    """Return the streams of a gateway that owns no launch and adopts none."""
    member = member_of(context)
    launches = Launches(context=context, member=member, backends=cast("Backends", None), settings=SETTINGS)
    return StreamResponses(context=context, launches=launches, settings=SETTINGS, scheduler=SendScheduler(SETTINGS))


@asynccontextmanager
async def following(context: ProcessContext, form: str, launch_id: str = LAUNCH.id) -> AsyncIterator[Client]:
    """Follow a launch in one of the formats."""
    client = Client(getattr(responses(context), form)(LaunchPosition(launch_id=launch_id)))
    try:
        yield client
    finally:
        client.task.cancel()


@pytest.fixture
async def gateway(valkey: Valkey, context: ProcessContext) -> AsyncIterator[ProcessContext]:
    """Another process, which follows."""
    async with another_context(valkey) as gateway:
        yield gateway


def assert_lost(event: dict[str, Any], form: str) -> None:
    """Check that an event says to a client of that format that the launch is lost."""
    assert event["phase"] == "failed"
    assert "launch again" in event["message"]
    if form == "facade":
        assert (event["code"], event["status_code"]) == ("launch_lost", 500)
    else:
        assert event["state"] == "failed"
        assert (event["error"]["code"], event["error"]["can_retry"]) == ("launch_lost", True)


@pytest.mark.parametrize("form", FORMATS)
async def test_followers_of_a_launch_without_record_and_gateway_are_told(
    context: ProcessContext, gateway: ProcessContext, form: str
) -> None:
    await a_launch(context)
    async with following(gateway, form) as client:
        await until(lambda: gateway.bus.is_followed(LAUNCH) and gateway.bus.readers[LAUNCH].last)
        await context.redis.delete(context.keys.record(LAUNCH), context.keys.events(LAUNCH))
        *_, last = await client.events()
        assert_lost(last, form)


async def test_a_client_of_v1_resumes_where_it_was_if_it_connects_again(
    context: ProcessContext, gateway: ProcessContext
) -> None:
    await a_launch(context)
    async with following(gateway, "v1") as client:
        await client.until("begin")
        await context.redis.flushall()
        await client.events()
        first, end = client.content.decode().strip().split("\n\n")
        assert first.startswith("id: one~")
        assert "id: " not in end
        assert "retry: 5000" in end.splitlines()


@pytest.mark.parametrize("form", FORMATS)
async def test_followers_who_read_a_build_of_the_launch_are_told_as_well(
    context: ProcessContext, gateway: ProcessContext, form: str
) -> None:
    launch = await a_launch(context)
    await a_build(context)
    await launch.write(opens())
    async with following(gateway, form) as client:
        await client.until("b0")
        await context.redis.flushall()
        *_, last = await client.events()
        assert_lost(last, form)


async def test_followers_of_a_build_alone_are_told(context: ProcessContext, gateway: ProcessContext) -> None:
    await a_build(context)
    client = Client(responses(gateway).build(BUILD_ID, ""))
    await client.until("b0")
    await context.redis.flushall()
    *_, last = await client.events()
    assert (last["phase"], last["error"]["code"]) == ("failed", "build_lost")


@pytest.mark.parametrize("form", FORMATS)
async def test_followers_are_not_told_while_the_gateway_lives(
    valkey: Valkey, gateway: ProcessContext, form: str
) -> None:
    async with open_gateway(valkey) as owner:
        launch = await owner.begin()
        topic = Topic(Kind.LAUNCH, launch.launch_id)
        await owner.until_build(1)
        await owner.until_state(launch, LaunchState.BUILDING)
        async with following(gateway, form, launch.launch_id) as client:
            await client.until("Begun")
            await owner.context.redis.flushall()
            await until(lambda: owner.context.records.read(topic))
            await _several_checks(gateway.bus.readers[topic])
            assert not gateway.bus.readers[topic].is_lost
            await owner.launches.cancel(launch.launch_id, "anon:x")
            *_, last = await client.events()
            assert last["message"] == "The launch was cancelled.\n"


async def _several_checks(reader: Reader) -> None:
    """Wait until the record has been looked for more often than a lost one needs."""
    checks = 0
    check = reader.on_record_check

    def count(*, exists: bool) -> None:
        nonlocal checks
        checks += 1
        check(exists=exists)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "on_record_check", count)
        await until(lambda: checks > LOST_AFTER_CHECKS + 1)


async def test_a_launch_that_is_written_again_late_goes_on(context: ProcessContext, gateway: ProcessContext) -> None:
    """A record that is missing at two checks in a row is not lost yet."""
    await a_launch(context)
    async with following(gateway, "v1") as client:
        await client.until("begin")
        reader = gateway.bus.readers[LAUNCH]
        record = await context.redis.dump(context.keys.record(LAUNCH))
        await context.redis.delete(context.keys.record(LAUNCH))
        await until(lambda: reader.missing_checks == LOST_AFTER_CHECKS - 1)
        await context.redis.restore(context.keys.record(LAUNCH), 0, record)
        await _several_checks(reader)
        assert not client.task.done()
        assert reader.missing_checks == 0
