"""Leases in a real Redis: the dead are found, what they owned goes to the living, once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchState, Phase
from services.common.records.leases import OnAdopt, ServiceMember
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import LivingProcess, create_record, launch, message_event, messages_of
from tests.support.valkey import Valkey, another_context, die, member_of, sweeper_of, trust_leases

TOPIC = Topic(Kind.LAUNCH, "one")


async def fields_of(context: ProcessContext, *names: str) -> list[str]:
    """Return fields of the record as Redis holds them."""
    stored = await context.records.read(TOPIC)
    assert stored
    return [stored.get(name) for name in names]


@asynccontextmanager
async def living(context: ProcessContext, *, on_adopt: OnAdopt | None = None) -> AsyncIterator[ServiceMember]:
    """Run a process that renews, adopts and sweeps."""
    member = member_of(context)
    await member.take_lease()
    trust_leases(member)
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


async def test_what_was_left_when_nobody_was_there_is_adopted_at_the_start(
    context: ProcessContext, valkey: Valkey
) -> None:
    adopted: list[OwnedRecord] = []

    async def adopt(record: OwnedRecord, _stored: StoredRecord) -> None:
        adopted.append(record)

    async with LivingProcess(context, "gateway") as process:
        await create_record(context, process)
    async with another_context(valkey, reread_seconds=600) as other:
        await other.bus.listen("another", lambda _message: None)  # connected: the bus reports no loss any more
        async with living(other, on_adopt=adopt):
            await until(lambda: adopted, seconds=5)


async def test_nobody_takes_from_the_living(context: ProcessContext) -> None:
    async with living(context) as owner:
        record = await create_record(context, owner.process)
        owner.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        sweeper = await sweeper_of(context)
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


async def test_what_a_process_creates_while_its_lease_has_run_out_is_found_by_the_sweep(
    context: ProcessContext,
) -> None:
    late = member_of(context)
    await late.take_lease()
    await die(context, late)
    await create_record(context, late.process)
    other = await sweeper_of(context)
    await other.sweep_once()
    assert await context.records.adopt("gateway", other.process)


async def test_a_lease_that_ran_out_is_revived_if_nobody_took_what_its_process_owned(context: ProcessContext) -> None:
    lost = sample("bindery_fenced_total", kind="lease")
    async with living(context) as member:
        record = await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        await die(context, member)
        await until(lambda: context.redis.exists(context.keys.alive(member.process)))
        await asyncio.sleep(2 * context.settings.lease_renew_seconds)
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


async def test_after_an_outage_a_sweeper_gives_all_others_time_to_renew(valkey: Valkey, redis: Redis) -> None:
    async with another_context(valkey, lease_seconds=1.5, lease_renew_seconds=0.5) as context:
        sweeper = member_of(context)
        await sweeper.take_lease()
        await sweeper.sweep_once()
        other = member_of(context)
        await other.take_lease()
        await create_record(context, other.process)

        # As if Redis had stood still: nobody could renew.
        await redis.delete(context.keys.alive(sweeper.process), context.keys.alive(other.process))
        await asyncio.sleep(1.1)
        await sweeper._renew()
        await sweeper.sweep_once()
        assert await fields_of(context, "owner") == [other.process]

        # The other one is dead: once that is certain, it is found.
        async def is_found() -> bool:
            await sweeper._renew()
            await sweeper.sweep_once()
            return await fields_of(context, "owner") == [""]

        await until(is_found)


async def test_a_sweeper_that_begins_after_an_outage_gives_all_others_time_to_renew(
    valkey: Valkey, redis: Redis
) -> None:
    """One process was answered at once, while all others still wait for their connections to break."""
    async with another_context(valkey, lease_seconds=1.0, lease_renew_seconds=0.3) as context:
        other = member_of(context)
        await other.take_lease()
        await create_record(context, other.process)
        await die(context, other)  # as far as Redis can tell

        new = member_of(context)
        await new.take_lease()
        await new.start()
        await new.sweep_once()
        assert new.is_sweeper
        assert await fields_of(context, "owner") == [other.process]

        # The other one is dead: after a lease, that is certain.
        began_at = time.monotonic()

        async def is_found() -> bool:
            await new._renew()
            await new.sweep_once()
            return await fields_of(context, "owner") == [""]

        await until(is_found)
        assert time.monotonic() - began_at >= 0.8


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


async def test_adoption_has_a_pace(valkey: Valkey, redis: Redis) -> None:
    adopted_at: list[float] = []

    async def adopt(_record: OwnedRecord, _stored: StoredRecord) -> None:
        adopted_at.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    async with another_context(valkey, adoptions_per_second=10) as context:
        dead = member_of(context)
        await dead.take_lease()
        for number in range(4):
            topic = Topic(Kind.LAUNCH, f"of-{number}")
            await context.records.create(topic, launch(), message_event("first"), process=dead.process)
        await dead.hand_over()
        async with living(context, on_adopt=adopt):
            await until(lambda: len(adopted_at) == 4)
    assert adopted_at[-1] - adopted_at[0] >= 3 * 0.1 * 0.9


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
