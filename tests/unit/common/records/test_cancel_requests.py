"""Requests to give up a noun: heard, or found a little later; and no record is begun by one."""

import asyncio

from services.common.context import ProcessContext, background_tasks
from services.common.records.cancel_requests import CancelRequests
from services.common.redis.keys import Kind, Topic
from tests.unit.common.records.test_records import TOPIC, created


def cancels_of(context: ProcessContext) -> CancelRequests:
    return CancelRequests(context.records, TOPIC.kind, context.keys.wake("gateway"))


async def test_who_works_on_a_noun_hears_that_it_is_to_be_given_up(context: ProcessContext) -> None:
    await created(context)
    cancels = cancels_of(context)
    asked, another = cancels.expect(TOPIC.id), cancels.expect("another")
    await context.bus.listen(context.keys.wake("gateway"), cancels.heard)
    async with asyncio.timeout(5):
        assert await cancels_of(context).ask(TOPIC.id)
        await asked.wait()
    assert not another.is_set()


async def test_a_request_that_was_not_heard_is_found(context: ProcessContext) -> None:
    await created(context)
    cancels = cancels_of(context)
    asked = cancels.expect(TOPIC.id)
    await cancels.ask(TOPIC.id)
    async with background_tasks(cancels.watch()), asyncio.timeout(5):
        await asked.wait()


async def test_a_noun_that_is_gone_gets_no_record_by_a_request_or_a_look_at_it(context: ProcessContext) -> None:
    """Redis was emptied between the look for the noun and the request: a stub would stay for ever."""
    assert not await cancels_of(context).ask("gone")
    assert not await context.records.note(Topic(Kind.LAUNCH, "gone"), "seen", "1.0")
    assert await context.redis.keys("*") == []


async def test_what_one_works_on_anew_is_not_forgotten_with_what_was_before(context: ProcessContext) -> None:
    cancels = cancels_of(context)
    first = cancels.expect("one")
    second = cancels.expect("one", is_asked=True)
    cancels.forget("one", first)
    assert "one" in cancels
    assert second.is_set()
    cancels.forget("one", second)
    assert "one" not in cancels
