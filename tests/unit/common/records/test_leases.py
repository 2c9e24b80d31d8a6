"""Leases in a real Redis: the dead are found, what they owned goes to the living, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchState, Phase
from services.common.records.leases import OnAdopt, ServiceMember
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from tests.support.polling import until
from tests.support.sample_records import create_record, launch, message_event
from tests.support.valkey import Valkey, another_context, die, member_of, service_settings

TOPIC = Topic(Kind.LAUNCH, "one")


@asynccontextmanager
async def living(context: ProcessContext, *, on_adopt: OnAdopt | None = None) -> AsyncIterator[ServiceMember]:
    """Run a process that renews, adopts and sweeps."""
    member = member_of(context)
    await member.take_lease()
    await member.start(on_adopt=on_adopt)
    async with background_tasks(member.run()):
        yield member


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


async def test_nobody_takes_from_the_living(context: ProcessContext) -> None:
    async with living(context) as owner:
        record = await create_record(context, owner.process)
        owner.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        sweeper = member_of(context)
        await sweeper.take_lease()
        await sweeper.sweep_once()
        await record.write(message_event("second"))


@pytest.mark.slow
@pytest.mark.usefixtures("redis")
async def test_one_process_sweeps_and_another_when_it_dies(valkey: Valkey) -> None:
    async with another_context(valkey, lease_seconds=2) as context:
        first = member_of(context)
        second = member_of(context)
        for member in (first, second):
            await member.take_lease()
            await member.sweep_once()
        assert (first.is_sweeper, second.is_sweeper) == (True, False)

        async def takes_over() -> bool:
            await second.sweep_once()
            return second.is_sweeper

        await until(takes_over)


async def test_giving_up_hands_over_at_once(context: ProcessContext) -> None:
    leaving = member_of(context)
    await leaving.take_lease()
    await create_record(context, leaving.process)
    await leaving.hand_over()
    other = member_of(context)
    await other.take_lease()
    assert await context.records.adopt("gateway", other.process)


async def test_a_process_without_a_lease_adopts_nothing(context: ProcessContext) -> None:
    dead = member_of(context)
    await dead.take_lease()
    await create_record(context, dead.process)
    await dead.hand_over()
    assert await context.records.adopt("gateway", dead.process) is None
    assert await context.redis.scard(context.keys.orphans("gateway")) == 1


async def test_adopting_again_after_a_lost_reply_finds_what_was_claimed(context: ProcessContext) -> None:
    member = member_of(context)
    await member.take_lease()
    await create_record(context, "gateway-dead")
    await context.redis.hset(context.keys.record(TOPIC), mapping={"owner": "", "claim": ""})
    await context.redis.sadd(context.keys.orphans("gateway"), "l:one")
    process = member.process
    keys = context.keys
    names = [keys.orphans("gateway"), keys.owned(process), keys.alive(process)]
    first = await context.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 0, 0, 0])
    again = await context.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 1, 0, 0])
    assert first[:3] == again[:3] == [b"claimed", b"l:one", b"2"]


async def test_what_a_process_creates_after_its_lease_ran_out_is_found_by_the_sweep(context: ProcessContext) -> None:
    late = member_of(context)
    await late.take_lease()
    await late.hand_over()
    await create_record(context, late.process)
    other = member_of(context)
    await other.take_lease()
    await other.sweep_once()
    assert await context.records.adopt("gateway", other.process)


async def test_a_process_whose_lease_ran_out_stops_its_work_and_goes_on_under_another_name(valkey: Valkey) -> None:
    settings = service_settings(valkey, lease_seconds=0.2, lease_renew_seconds=0.5)
    async with another_context(valkey) as context:
        await context.redis.flushall()
        member = ServiceMember(
            "gateway", redis=context.redis, keys=context.keys, records=context.records, settings=settings, sweeps=False
        )
        await member.take_lease()
        name = member.process
        record = await create_record(context, name)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        async with background_tasks(member.run()):
            await until(lambda: member.process != name)
            assert not member.owns(TOPIC)
            with pytest.raises(Fenced):
                await record.write(message_event("too late"))


async def test_an_emptied_redis_costs_a_living_process_nothing(context: ProcessContext) -> None:
    async with living(context) as member:
        name = member.process
        record = await create_record(context, name, rewrite_if_missing=True)
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
