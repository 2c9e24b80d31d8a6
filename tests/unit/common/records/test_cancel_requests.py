"""Requests to give up a noun: heard, or found a little later; and no record is begun by one."""

import asyncio

from services.common.context import ProcessContext
from services.common.records.cancel_requests import CancelRequests
from services.common.redis.keys import Kind, Topic
from services.common.service.call_accounting import attributed_to
from services.common.service.loops import background_tasks
from tests.support.metrics import sample
from tests.support.sample_records import TOPIC, create_record


def cancels_of(context: ProcessContext) -> CancelRequests:
    return CancelRequests(context.records, TOPIC.kind, context.keys.wake("gateway"))


async def test_the_owner_of_a_record_hears_that_it_is_to_be_abandoned(context: ProcessContext) -> None:
    await create_record(context)
    cancels = cancels_of(context)
    request = cancels.register(TOPIC.id)
    another = cancels.register("another")
    await context.bus.listen(context.keys.wake("gateway"), cancels.on_message)
    async with asyncio.timeout(60):
        assert await cancels_of(context).request(TOPIC.id)
        await request.wait()
    assert not another.is_set()


async def test_a_request_that_was_not_heard_is_found(context: ProcessContext) -> None:
    await create_record(context)
    cancels = cancels_of(context)
    request = cancels.register(TOPIC.id)
    await cancels.request(TOPIC.id)
    async with background_tasks(cancels.poll()), asyncio.timeout(60):
        await request.wait()


async def test_all_requests_are_looked_for_by_one_round_trip(context: ProcessContext) -> None:
    await create_record(context)
    cancels = cancels_of(context)
    requests = {name: cancels.register(name) for name in (TOPIC.id, "another", "a third")}
    await cancels.request(TOPIC.id)
    before = sample("bindery_redis_round_trips_total", doing="work")
    with attributed_to("work"):
        await cancels._look()
    assert sample("bindery_redis_round_trips_total", doing="work") == before + 1
    assert [name for name, requested in requests.items() if requested.is_set()] == [TOPIC.id]


async def test_a_record_that_was_just_created_costs_no_look(context: ProcessContext) -> None:
    await create_record(context)
    cancels = cancels_of(context)
    cancels.register(TOPIC.id)
    before = sample("bindery_redis_round_trips_total", doing="work")
    with attributed_to("work"):
        await cancels._look_at_adopted()
    assert sample("bindery_redis_round_trips_total", doing="work") == before


async def test_a_record_that_is_no_hash_keeps_no_request_from_being_found(context: ProcessContext) -> None:
    await create_record(context)
    await context.redis.set(context.keys.record(Topic(Kind.LAUNCH, "damaged")), "no hash")
    cancels = cancels_of(context)
    damaged = cancels.register("damaged")
    request = cancels.register(TOPIC.id)
    await cancels.request(TOPIC.id)
    await cancels._look()
    assert request.is_set()
    assert not damaged.is_set()


async def test_a_noun_that_is_gone_gets_no_record_by_a_request_or_a_look_at_it(context: ProcessContext) -> None:
    """Redis was emptied between the look for the noun and the request: a stub would stay for ever."""
    assert not await cancels_of(context).request("gone")
    assert not await context.records.set_field(Topic(Kind.LAUNCH, "gone"), "seen", "1.0")
    assert await context.redis.keys("*") == []


async def test_a_cancel_of_new_work_outlives_the_end_of_the_work_before(context: ProcessContext) -> None:
    cancels = cancels_of(context)
    first = cancels.register("one")
    second = cancels.register("one", is_requested=True)
    cancels.unregister("one", first)
    assert "one" in cancels
    assert second.is_set()
    cancels.unregister("one", second)
    assert "one" not in cancels
