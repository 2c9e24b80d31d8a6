"""What following costs: round trips, for one follower and for many, of topics heard one by one and by their kind."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.common.context import ProcessContext, open_context
from services.common.redis.keys import Kind, Topic
from services.common.service.call_accounting import attributed_to
from services.common.streams.bus import REREAD_TURNS
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, create_record, message_event
from tests.support.valkey import Valkey, another_context, service_settings


def round_trips(doing: str = "work") -> float:
    return sample("bindery_redis_round_trips_total", doing=doing)


async def connected(context: ProcessContext) -> ProcessContext:
    """The context, once its bus gets messages; before that, the bus polls the followed topics."""
    async with context.bus.follow(Topic(Kind.BUILD, "another"), lambda: None):
        return context


@pytest.fixture
async def other(valkey: Valkey, context: ProcessContext) -> AsyncIterator[ProcessContext]:
    """Another process, which subscribes to each topic that it follows."""
    async with another_context(valkey) as other:
        yield await connected(other)


@pytest.fixture
async def gateway(valkey: Valkey, context: ProcessContext) -> AsyncIterator[ProcessContext]:
    """Another process, which hears all topics of the kind."""
    async with open_context(service_settings(valkey), subscribe_all={TOPIC.kind}) as gateway:
        yield await connected(gateway)


async def test_followers_who_come_at_once_share_a_subscription_and_a_read(
    context: ProcessContext, other: ProcessContext
) -> None:
    await create_record(context)
    before = round_trips()
    async with AsyncExitStack() as followers:
        with attributed_to("work"):
            readers = await asyncio.gather(
                *(followers.enter_async_context(other.bus.follow(TOPIC, lambda: None)) for _ in range(10))
            )
        assert all(reader.last for reader in readers)  # each finds what there is, without another look
        assert round_trips() - before == 2


async def test_a_topic_of_a_kind_that_is_heard_costs_a_read_alone(
    context: ProcessContext, gateway: ProcessContext
) -> None:
    record = await create_record(context)
    before = round_trips()
    with attributed_to("work"):
        async with gateway.bus.follow(TOPIC, lambda: None) as reader:
            await record.write(message_event("second"))
            await until(lambda: [entry.number for entry in reader.entries] == [1, 2])
    assert round_trips() - before == 2  # the read, and the write


async def test_a_kind_is_heard_again_after_the_connection_broke(
    context: ProcessContext, gateway: ProcessContext
) -> None:
    record = await create_record(context)
    async with gateway.bus.follow(TOPIC, lambda: None) as reader:
        await context.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await record.write(message_event("second"))
        await until(lambda: len(reader.entries) == 2)
        await record.write(message_event("third"))
        await until(lambda: len(reader.entries) == 3)


async def test_a_topic_followed_while_the_connection_is_opened_slowly_is_heard(own_valkey: Valkey) -> None:
    """Its follower has ceased to wait for the confirmation, and has read the topic, before the connection is open."""
    settings = {"heartbeat_seconds": 0.2, "redis_timeout_seconds": 10, "reread_seconds": 600}
    async with (
        another_context(own_valkey) as owner,
        another_context(own_valkey, **settings) as follower,
        AsyncExitStack() as followers,
    ):
        record = await create_record(owner)
        await connected(follower)
        subscription = follower.bus._subscription
        broken = subscription._connection
        assert broken

        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            broken.is_silent.set()
            await until(lambda: subscription._connection not in (None, broken))
            following = asyncio.create_task(followers.enter_async_context(follower.bus.follow(TOPIC, lambda: None)))
            await until(lambda: TOPIC in follower.bus.readers)
            await follower.bus.listen("bindery:messages", lambda _: None)  # waits as long as the follower, and after it
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)

        reader = await following
        await until(subscription._connected.is_set)
        await record.write(message_event("second"))
        await until(lambda: len(reader.entries) == 2, seconds=10)
        await record.write(message_event("third"))
        await until(lambda: len(reader.entries) == 3, seconds=10)


async def test_a_message_whose_handler_fails_is_counted_and_keeps_no_other_from_being_handled(
    context: ProcessContext,
) -> None:
    handled: list[bytes] = []

    def handle(message: bytes) -> None:
        if message == b"odd":
            raise ValueError("a bug")
        handled.append(message)

    before = sample("bindery_loop_failures_total", loop="subscription")
    await context.bus.listen("bindery:messages", handle)
    for message in ("odd", "fine"):
        await context.redis.publish("bindery:messages", message)
    await until(lambda: handled == [b"fine"])
    assert sample("bindery_loop_failures_total", loop="subscription") - before == 1


async def test_topics_without_followers_are_skipped(context: ProcessContext, gateway: ProcessContext) -> None:
    record = await create_record(context)
    async with gateway.bus.follow(TOPIC, lambda: None):
        pass
    await record.write(message_event("second"))
    assert gateway.bus.followed_topics(TOPIC.kind) == []
    async with gateway.bus.follow(TOPIC, lambda: None) as reader:
        assert [entry.number for entry in reader.entries] == [1, 2]


async def test_rereading_is_spread_over_its_turns_and_leaves_no_topic_out(valkey: Valkey) -> None:
    topics = {Topic(Kind.LAUNCH, str(number)) for number in range(5 * REREAD_TURNS)}
    async with another_context(valkey, reread_seconds=600) as context, AsyncExitStack() as followers:
        for topic in topics:
            await followers.enter_async_context(context.bus.follow(topic, lambda: None))
        turns: list[set[Topic]] = []
        for _ in range(REREAD_TURNS):
            context.bus._stale.clear()
            await context.bus._mark_due()
            turns.append(set(context.bus._stale))
    assert set().union(*turns) == topics
    assert sum(map(len, turns)) == len(topics)
    assert max(map(len, turns)) < len(topics) / 2


async def test_the_greeting_of_a_connection_is_not_counted_as_work(context: ProcessContext) -> None:
    before = round_trips()
    with attributed_to("work"):
        await context.redis.connection_pool.disconnect()
        await context.redis.ping()
    assert round_trips() - before == 1
