"""Streams of launches: nothing is missed between topics, and the clock sends neither too often nor too late."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest

from services.common.context import ProcessContext
from services.common.models import Event, Phase, Server, ServerId, ServerState, TopicRef
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from services.common.streams.entries import StreamEvent
from services.common.streams.topic_stream import Listener
from services.common.web.incoming import BoundedBodies, HeadRequests
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.event_formats import LOST_V1, V1
from services.gateway.streaming.event_stream_response import EventStreamResponse
from services.gateway.streaming.launch_stream import LaunchPosition, LaunchStream
from services.gateway.streaming.send_scheduler import BURST, PER_CLIENT_TICK_MAX, SendScheduler, Subscriber
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, create_record, list_process

SERVER = Topic(Kind.SERVER, "one")
QUICK = GatewaySettings(tick_seconds=0.05, tick_max_seconds=0.05, keepalive_seconds=0.6, send_timeout_seconds=0.4)


async def started(context: ProcessContext) -> OwnedRecord:
    server = Server(
        server_id=ServerId("one"), hub_id="hub", user="u", server_name="", launch_ref="ref",
        state=ServerState.STARTING, image="image", repo_url="url", created_at=time.time(),
    )  # fmt: skip
    claimed, _ = await context.records.create(
        SERVER,
        server,
        Event(phase=Phase.LAUNCHING, message="starting\n"),
        process=await list_process(context, "launcher-a"),
    )
    assert isinstance(claimed, OwnedRecord)
    return claimed


class Woken(asyncio.Event):
    """A follower that only waits."""

    has_news = True

    def notify(self) -> None:
        self.has_news = True
        self.set()


async def test_a_launch_that_goes_on_while_a_topic_of_it_is_delivered_wakes_its_follower(
    context: ProcessContext,
) -> None:
    launch = await create_record(context)
    server = await started(context)
    await launch.write(Event(phase=Phase.BUILT, message="found\n", opens=TopicRef(kind=Kind.SERVER, id="one")))
    await server.write(Event(phase=Phase.LAUNCHING, message="up\n", terminal=True), release=True)
    listener = Woken()
    content = b""
    has_ended = False

    async def encode_terminal(_event: StreamEvent, _event_id: str) -> bytes:
        nonlocal has_ended
        has_ended = True
        return b""

    stream = LaunchStream(
        bus=context.bus,
        logs=context.logs,
        position=LaunchPosition(launch_id=TOPIC.id),
        form=V1,
        encode_terminal=encode_terminal,
        lost_event=LOST_V1,
    )
    async with asyncio.timeout(60):
        async for chunk in stream.chunks(listener):
            if chunk is None:
                listener.clear()
                if not listener.has_news:
                    await listener.wait()
                continue
            content += chunk
            if b"up" in chunk:  # the topic's last entry is on its way out, and the launch ends meanwhile
                await launch.write(Event(phase=Phase.READY, terminal=True), final=True)
    assert has_ended
    assert content.index(b"found") < content.index(b"starting") < content.index(b"up")


class ScriptedStream:
    """A stream that says what a test puts into it."""

    def __init__(self) -> None:
        self.pending: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.listener: Listener | None = None

    def say(self, chunk: bytes | None) -> None:
        self.pending.put_nowait(chunk)
        if self.listener:
            self.listener.notify()

    async def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
        self.listener = listener
        while True:
            listener.has_news = False
            while not self.pending.empty():
                if (chunk := self.pending.get_nowait()) is None:
                    return
                yield chunk
            yield None


class Connection:
    """The client's end: what came and when; it may stop reading, or leave."""

    def __init__(self) -> None:
        self.bodies: list[tuple[float, bytes]] = []
        self.is_closed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.is_closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        if message.get("body"):
            self.bodies.append((time.monotonic(), message["body"]))

    async def until(self, count: int) -> list[bytes]:
        await until(lambda: len(self.bodies) >= count)
        return [body for _, body in self.bodies]


class Delivery:
    """A response that is being sent."""

    def __init__(self, scheduler: SendScheduler, *, lingers: bool = False, ends_on_drain: bool = True) -> None:
        self.stream = ScriptedStream()
        self.connection = Connection()
        response = EventStreamResponse(
            self.stream, scheduler=scheduler, settings=QUICK, lingers=lingers, ends_on_drain=ends_on_drain
        )  # fmt: skip
        scope = {"type": "http", "method": "GET", "path": "/"}
        self.task = asyncio.create_task(response(scope, self.connection.receive, self.connection.send))


@pytest.fixture
async def scheduler() -> AsyncIterator[SendScheduler]:
    scheduler = SendScheduler(QUICK)
    async with background_tasks(scheduler.run()):
        yield scheduler


async def test_head_gets_the_headers_of_a_stream_and_nothing_is_followed(scheduler: SendScheduler) -> None:
    class Untouched(ScriptedStream):
        def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
            raise AssertionError("followed")

    stream = EventStreamResponse(
        Untouched(), scheduler=scheduler, settings=QUICK, headers={"Cache-Control": "no-cache"}
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(HeadRequests(stream)), base_url="http://x") as client:
        reply = await client.head("/")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache"


async def test_a_follower_with_an_endless_body_is_disconnected(scheduler: SendScheduler) -> None:
    async def endless() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def send(_message: MutableMapping[str, Any]) -> None:
        return None

    bounded = BoundedBodies(EventStreamResponse(ScriptedStream(), scheduler=scheduler, settings=QUICK), max_bytes=100)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"transfer-encoding", b"chunked")]}
    async with asyncio.timeout(60):
        await bounded(scope, endless, send)


async def test_a_quick_launch_is_not_held_up_by_the_tick(scheduler: SendScheduler) -> None:
    delivery = Delivery(scheduler)
    for number in range(BURST - 1):
        delivery.stream.say(b"%d" % number)
        await delivery.connection.until(number + 1)
    times = [at for at, _ in delivery.connection.bodies]
    assert times[-1] - times[0] < QUICK.tick_seconds * (BURST - 2)
    delivery.stream.say(None)
    await delivery.task


@pytest.mark.slow
async def test_a_talkative_topic_goes_out_once_a_tick(scheduler: SendScheduler) -> None:
    delivery = Delivery(scheduler)
    started_at = time.monotonic()
    while time.monotonic() - started_at < 1.0:
        delivery.stream.say(b".")
        await asyncio.sleep(0.002)
    delivery.stream.say(None)
    await delivery.task
    assert len(delivery.connection.bodies) <= BURST + 1.1 / QUICK.tick_seconds + 2


async def test_many_share_one_tick_and_get_everything(scheduler: SendScheduler) -> None:
    crowd = [Delivery(scheduler) for _ in range(PER_CLIENT_TICK_MAX + 150)]
    await until(lambda: all(delivery.stream.listener for delivery in crowd))
    for number in range(20):
        for delivery in crowd:
            delivery.stream.say(b"%d " % number)
        await asyncio.sleep(0.01)
    for delivery in crowd:
        delivery.stream.say(None)
    await asyncio.gather(*(delivery.task for delivery in crowd))
    expected = b"".join(b"%d " % number for number in range(20))
    assert {b"".join(body for _, body in delivery.connection.bodies) for delivery in crowd} == {expected}


@pytest.mark.slow
async def test_a_silent_stream_says_that_it_lives(scheduler: SendScheduler) -> None:
    delivery = Delivery(scheduler)
    assert await delivery.connection.until(2) == [b":keepalive\n\n"] * 2
    delivery.connection.is_closed.set()
    await delivery.task


async def test_a_client_that_reads_nothing_is_disconnected(scheduler: SendScheduler) -> None:
    delivery = Delivery(scheduler)
    await until(lambda: delivery.stream.listener)
    delivery.connection.reads.clear()
    delivery.stream.say(b"x")
    async with asyncio.timeout(60):
        await delivery.task


async def test_a_check_of_the_clients_that_fails_is_counted_and_not_the_last_one(
    scheduler: SendScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Subscriber) -> None:
        raise ValueError("a bug")

    def failures() -> float:
        return sample("bindery_loop_failures_total", loop="send_scheduler")

    before = failures()
    delivery = Delivery(scheduler)
    await until(lambda: delivery.stream.listener)
    with monkeypatch.context() as patch:
        patch.setattr(Subscriber, "wake", broken)
        await until(lambda: failures() > before)
    assert await delivery.connection.until(1) == [b":keepalive\n\n"]
    delivery.connection.is_closed.set()
    await delivery.task


async def test_on_a_drain_only_streams_that_can_be_resumed_elsewhere_end(scheduler: SendScheduler) -> None:
    ends = Delivery(scheduler)
    stays = Delivery(scheduler, ends_on_drain=False)
    await until(lambda: ends.stream.listener and stays.stream.listener)
    scheduler.drain()
    await ends.task
    assert await ends.connection.until(1) == [b"retry: 500\n\n"]
    stays.stream.say(b"still here")
    assert (await stays.connection.until(1))[0] == b"still here"
    stays.connection.is_closed.set()
    await stays.task


async def test_cancelling_a_request_is_not_mistaken_for_a_slow_client(scheduler: SendScheduler) -> None:
    delivery = Delivery(scheduler)
    await until(lambda: delivery.stream.listener)
    delivery.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery.task


async def test_a_client_that_left_waits_for_nothing(scheduler: SendScheduler) -> None:
    client = Subscriber(scheduler, None)
    client.has_news = False
    client.leave()
    async with asyncio.timeout(60):
        await client.wait()
