"""Leases in a real Redis: the dead are found, what they owned goes to the living, once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchState, Phase
from services.common.records.leases import ServiceMember
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import ScriptArg, ScriptReply
from services.common.service.loops import background_tasks
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import (
    TOPIC,
    create_record,
    launch,
    living,
    message_event,
    messages_of,
)
from tests.support.valkey import Valkey, another_context, die, member_of


async def test_what_a_dead_process_owned_is_adopted_once_and_the_dead_one_is_fenced(
    context: ProcessContext, valkey: Valkey
) -> None:
    adopted: list[OwnedRecord] = []

    async def adopt(record: OwnedRecord, _stored: StoredRecord) -> None:
        adopted.append(record)
        await asyncio.Event().wait()

    dead = member_of(context)
    await dead.take_lease()
    old = await create_record(context, dead.process)
    async with another_context(valkey) as other, living(context, on_adopt=adopt), living(other, on_adopt=adopt):
        await die(context, dead)
        await until(lambda: adopted)
        with pytest.raises(Fenced):
            await old.write(message_event("too late"))
        await adopted[0].write(message_event("second"))
        assert len(adopted) == 1
        assert adopted[0].epoch > old.epoch


async def test_a_lease_that_ran_out_is_revived_if_nobody_took_what_its_process_owned(context: ProcessContext) -> None:
    lost = sample("bindery_fenced_total", kind="lease")
    async with living(context) as member:
        record = await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        await die(context, member)
        await until(lambda: context.redis.exists(context.keys.alive(member.process)))
        await asyncio.sleep(2 * context.settings.lease_renew_seconds)  # at a renewal, work that is lost would end
        assert member.owns(TOPIC)
        assert record.epoch == 1
        await record.write(message_event("second"))
    assert sample("bindery_fenced_total", kind="lease") == lost


async def test_a_process_that_was_taken_for_dead_stops_the_work_that_others_own(
    context: ProcessContext, valkey: Valkey
) -> None:
    """And only that: it keeps its name, and goes on with what it creates afterwards."""
    async with another_context(valkey) as elsewhere, living(context) as member:
        record = await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        sweeper = member_of(elsewhere)
        await sweeper.take_lease()
        await die(context, member)
        await sweeper._sweeper.release(member.process)
        assert await elsewhere.records.adopt("gateway", sweeper.process)

        await until(lambda: not member.owns(TOPIC))
        with pytest.raises(Fenced):
            await record.write(message_event("too late"))
        await until(lambda: context.redis.exists(context.keys.alive(member.process)))


async def test_a_lost_creation_is_found_although_a_lost_end_makes_the_counts_equal(context: ProcessContext) -> None:
    async with living(context) as member:
        keys = context.keys
        ended = Topic(Kind.LAUNCH, "ended")
        record, _ = await context.records.create(ended, launch(), message_event("first"), process=member.process)
        assert isinstance(record, OwnedRecord)
        await record.write(message_event("end"), final=True)
        await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]

        # Redis comes back without its last second: with the ended record as it was, and without the new one.
        await context.redis.hset(keys.record(ended), mapping={"owner": member.process, "final": ""})
        await context.redis.delete(keys.record(TOPIC), keys.events(TOPIC))
        await context.redis.delete(keys.owned(member.process))
        await context.redis.sadd(keys.owned(member.process), ended.name)

        await until(lambda: context.records.read(TOPIC))
        assert await messages_of(context) == ["first"]


@contextlib.asynccontextmanager
async def offering(context: ProcessContext) -> AsyncIterator[tuple[ServiceMember, list[str]]]:
    """Run a member that offers something; the list grows each time that it is written."""
    offers: list[str] = []

    async def offer() -> None:
        offers.append("offer")

    member = member_of(context)
    await member.take_lease()
    await member.start(on_lease=offer)
    async with background_tasks(member.run()):
        yield member, offers


async def test_what_a_process_offers_is_written_again_with_the_records_that_redis_lost(context: ProcessContext) -> None:
    async with offering(context) as (member, offers):
        await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        before = len(offers)
        await context.redis.delete(context.keys.record(TOPIC), context.keys.owned(member.process))
        await until(lambda: context.records.read(TOPIC))
        await until(lambda: len(offers) > before)


async def test_what_a_process_offers_is_written_again_although_all_its_records_are_there(
    context: ProcessContext,
) -> None:
    """A write of an owner restores its record, and not what stands beside that."""
    async with offering(context) as (_, offers):
        await until(lambda: offers)
        before = len(offers)
        context.bus.report_loss()
        await until(lambda: len(offers) > before)


async def test_an_offer_that_gets_no_reply_keeps_no_renewal_waiting(context: ProcessContext) -> None:
    has_started = False
    is_asked = asyncio.Event()

    async def offer_without_reply() -> None:
        if has_started:
            is_asked.set()
            await asyncio.Event().wait()

    member = member_of(context)
    await member.take_lease()
    await member.start(on_lease=offer_without_reply)
    has_started = True
    async with background_tasks(member.run()):
        context.bus.report_loss()
        await is_asked.wait()
        await die(context, member)
        await until(lambda: context.redis.exists(context.keys.alive(member.process)), "the lease is renewed")


@pytest.mark.usefixtures("redis")
async def test_a_record_that_was_disowned_and_is_claimed_again_is_not_disowned_at_once(valkey: Valkey) -> None:
    async with another_context(valkey, lease_renew_seconds=0.05) as context:
        member = member_of(context)
        await member.take_lease()
        await create_record(context, member.process)
        context.records.untrack(TOPIC)

        async def is_disowned() -> bool:
            await member._check_records()
            return bool(await context.redis.hget(context.keys.record(TOPIC), "owner") == b"")

        await until(is_disowned)
        assert await context.records.adopt("gateway", member.process)
        assert not await is_disowned()


async def test_a_renewal_that_is_slow_takes_no_lease_after_the_hand_over(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = member_of(context)
    await member.take_lease()
    run = member._scripts.run
    is_sent = asyncio.Event()

    async def run_slowly(name: str, keys: list[str], args: list[ScriptArg]) -> ScriptReply:
        is_sent.set()
        await until(lambda: member.is_leaving, "the process leaves")  # as a renewal that waits for a connection
        return await run(name, keys, args)

    monkeypatch.setattr(member._scripts, "run", run_slowly)
    renewal = asyncio.create_task(member._keep_lease())
    await is_sent.wait()
    await member.hand_over()
    await renewal
    assert not await context.redis.exists(context.keys.alive(member.process))
    assert not await context.redis.exists(context.keys.processes("gateway"))


async def test_a_record_that_a_failover_lost_comes_back_although_its_owner_has_nothing_to_write(
    context: ProcessContext,
) -> None:
    async with living(context) as member:
        await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        keys = context.keys
        await context.redis.delete(keys.record(TOPIC), keys.events(TOPIC))
        await context.redis.srem(keys.owned(member.process), TOPIC.name)
        await until(lambda: context.records.read(TOPIC))
        assert await messages_of(context) == ["first"]
        assert await context.redis.smembers(keys.owned(member.process)) == {b"l:one"}
        assert member.owns(TOPIC)


async def test_an_emptied_redis_costs_a_living_process_nothing(context: ProcessContext) -> None:
    async with living(context) as member:
        name = member.process
        record = await create_record(context, name)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        await context.redis.flushall()

        async def is_back() -> bool:
            alive = await context.redis.exists(context.keys.alive(name))
            return bool(alive and await context.records.read(TOPIC))

        await until(is_back)
        assert member.process == name
        assert member.owns(TOPIC)
        await record.write(Event(phase=Phase.READY), body=launch(LaunchState.READY), final=True)
        stored = await context.records.read(TOPIC)
        assert stored
        assert stored.model(Launch).state is LaunchState.READY


async def test_a_record_unknown_to_its_living_owner_is_offered_to_all(context: ProcessContext) -> None:
    adopted: list[StoredRecord] = []

    async def adopt(_claimed: OwnedRecord, stored: StoredRecord) -> None:
        adopted.append(stored)
        await asyncio.Event().wait()

    async with living(context, on_adopt=adopt) as member:
        await create_record(context, member.process)
        await until(lambda: adopted)
