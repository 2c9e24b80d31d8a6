"""A subscription that has died without a sign: heartbeats find it, and nothing that was missed stays missed."""

import asyncio
import io
import time
from collections.abc import AsyncIterator

import pytest

from services.common.context import ProcessContext, open_context, service_member
from services.common.records.cancel_requests import CancelRequests
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from tests.support.black_hole import BlackHole
from tests.support.logs import line_of
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, LivingProcess, create_record, message_event
from tests.support.valkey import Valkey, service_settings, sweeper_of

HEARTBEAT_SECONDS = 0.3
NOTICED_SECONDS = 3 * HEARTBEAT_SECONDS
"""A heartbeat is about to be sent, and two are missed."""
MARGIN_SECONDS = 2.0
"""For a busy machine; far below `reread_seconds`, by which a lost message would be made good otherwise."""


def reconnects() -> float:
    return sample("bindery_subscription_reconnects_total")


def heartbeat_failures() -> float:
    return sample("bindery_loop_failures_total", loop="heartbeat")


@pytest.fixture
async def black_hole(valkey: Valkey) -> AsyncIterator[BlackHole]:
    """A relay to Redis that swallows when it is told to."""
    async with BlackHole(valkey.socket).running() as black_hole:
        yield black_hole


@pytest.fixture
async def follower(valkey: Valkey, black_hole: BlackHole, context: ProcessContext) -> AsyncIterator[ProcessContext]:
    """A process behind the relay, which is subscribed; it rereads nothing by itself while a test lasts."""
    settings = service_settings(
        valkey,
        redis_url=black_hole.url(valkey.url),
        heartbeat_seconds=HEARTBEAT_SECONDS,
        redis_timeout_seconds=1.0,
        reread_seconds=600,
    )
    async with open_context(settings) as follower, follower.bus.follow(Topic(Kind.BUILD, "another"), lambda: None):
        yield follower


@pytest.mark.slow
async def test_a_living_subscription_stays_open(context: ProcessContext, follower: ProcessContext) -> None:
    before = reconnects()
    async with context.redis.pubsub() as heartbeats:
        await heartbeats.psubscribe(context.keys.heartbeats("*"))
        heard = 0
        async with asyncio.timeout(60):
            while heard < 5:
                message = await heartbeats.get_message(timeout=1)
                heard += message is not None and message["type"] == "pmessage"
    assert follower.bus.followed_topics(Kind.BUILD)
    assert reconnects() == before


@pytest.mark.slow
async def test_a_subscription_on_which_nothing_arrives_is_opened_again(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole, logs: io.StringIO
) -> None:
    before = reconnects()
    record = await create_record(context)
    async with follower.bus.follow(TOPIC, lambda: None) as reader:
        black_hole.swallow_subscriptions()
        await record.write(message_event("second"))
        await until(lambda: len(reader.entries) == 2, seconds=NOTICED_SECONDS + MARGIN_SECONDS)
        await record.write(message_event("third"))
        await until(lambda: len(reader.entries) == 3, seconds=MARGIN_SECONDS)
    assert reconnects() == before + 1
    assert line_of(logs, "subscription_silent")["level"] == "warning"


@pytest.mark.slow
async def test_followers_who_come_while_it_is_dead_are_served_when_it_is_open_again(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole
) -> None:
    """Each begins at once, or waits for the new connection; none waits for the old one to time out."""
    record = await create_record(context)
    black_hole.swallow_subscriptions()
    began = time.monotonic()

    async def follow() -> float:
        async with follower.bus.follow(TOPIC, lambda: None) as reader:
            assert [entry.number for entry in reader.entries] == [1]
            return time.monotonic() - began

    seconds = await asyncio.gather(*(follow() for _ in range(5)))
    assert max(seconds) < NOTICED_SECONDS + MARGIN_SECONDS

    async with follower.bus.follow(TOPIC, lambda: None) as reader:
        await record.write(message_event("second"))
        await until(lambda: len(reader.entries) == 2, seconds=NOTICED_SECONDS + MARGIN_SECONDS)


@pytest.mark.slow
async def test_a_subscription_dies_with_all_other_connections(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole
) -> None:
    """A heartbeat that can't be sent says nothing; the first ones that are sent again find the dead subscription."""
    record = await create_record(context)
    async with follower.bus.follow(TOPIC, lambda: None) as reader:
        black_hole.swallow_all()
        await record.write(message_event("second"))
        bound = follower.settings.redis_timeout_seconds + NOTICED_SECONDS + MARGIN_SECONDS
        await until(lambda: len(reader.entries) == 2, seconds=bound)
        await record.write(message_event("third"))
        await until(lambda: len(reader.entries) == 3, seconds=MARGIN_SECONDS)


@pytest.mark.slow
async def test_a_redis_that_answers_nothing_for_a_while_is_no_reason_to_give_up(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole
) -> None:
    record = await create_record(context)
    async with follower.bus.follow(TOPIC, lambda: None) as reader:
        failures = heartbeat_failures()
        black_hole.swallows_new = True
        black_hole.swallow_all()
        await record.write(message_event("second"))
        await until(lambda: heartbeat_failures() >= failures + 2)
        black_hole.swallows_new = False
        black_hole.swallow_all()
        bound = 2 * follower.settings.redis_timeout_seconds + NOTICED_SECONDS + MARGIN_SECONDS
        await until(lambda: len(reader.entries) == 2, seconds=bound)


@pytest.mark.slow
async def test_what_a_swallowed_message_told_is_looked_up_at_once(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole
) -> None:
    """A request to cancel is in the record; the message that would have made it take effect is lost."""
    await create_record(context)
    cancels = CancelRequests(follower.records, TOPIC.kind, follower.keys.wake("gateway"))
    requested = cancels.register(TOPIC.id)
    await follower.bus.listen(follower.keys.wake("gateway"), cancels.on_message)
    async with background_tasks(cancels.poll()):
        black_hole.swallow_subscriptions()
        await CancelRequests(context.records, TOPIC.kind, context.keys.wake("gateway")).request(TOPIC.id)
        async with asyncio.timeout(NOTICED_SECONDS + MARGIN_SECONDS):
            await requested.wait()


@pytest.mark.slow
async def test_an_orphan_whose_message_was_swallowed_is_adopted_at_once(
    context: ProcessContext, follower: ProcessContext, black_hole: BlackHole
) -> None:
    adopted: list[str] = []

    async def adopt(record: OwnedRecord, _stored: StoredRecord) -> None:
        adopted.append(record.topic.id)

    async with (
        LivingProcess(context, "gateway") as process,
        service_member(follower, "gateway", sweeps=False) as member,
    ):
        await create_record(context, process)
        await member.start(on_adopt=adopt)
        black_hole.swallow_subscriptions()
        await context.redis.delete(context.keys.alive(process))
        sweeper = await sweeper_of(context)
        await sweeper.sweep_once()
        await until(lambda: adopted == [TOPIC.id], seconds=NOTICED_SECONDS + MARGIN_SECONDS)


async def test_a_confirmation_that_comes_late_rereads_what_it_missed(
    context: ProcessContext, follower: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is read without a subscription then; what is written in between would wait for the next message."""
    record = await create_record(context)
    subscription = follower.bus._subscription
    sent: list[bytes] = []
    connection = subscription._connection
    assert connection

    async def hold_back(channel: bytes) -> None:
        sent.append(channel)

    with monkeypatch.context() as patch:
        patch.setattr(connection.pubsub, "subscribe", hold_back)
        async with follower.bus.follow(TOPIC, lambda: None) as reader:
            assert [entry.number for entry in reader.entries] == [1]
            await record.write(message_event("second"))
            patch.undo()
            await connection.pubsub.subscribe(*sent)
            await until(lambda: len(reader.entries) == 2, seconds=MARGIN_SECONDS)
