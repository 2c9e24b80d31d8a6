"""Suspects: one record that kills its owners does not take those with it that the same owners had adopted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.context import ProcessContext
from services.common.records.leases import ServiceMember
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from tests.support.polling import until
from tests.support.sample_records import launch, living, message_event
from tests.support.valkey import Valkey, another_context, die, member_of, sweep_as_another

TOPICS = [Topic(Kind.LAUNCH, f"of-{number}") for number in range(5)]
POISON, *HEALTHY = TOPICS


@asynccontextmanager
async def a_process(valkey: Valkey, **settings: object) -> AsyncIterator[tuple[ProcessContext, ServiceMember]]:
    """Open a process of its own, with a lease, that has been on trial with nothing yet."""
    async with another_context(valkey, **settings) as context:
        member = member_of(context)
        await member.take_lease()
        yield context, member


async def adopt_all(context: ProcessContext, member: ServiceMember) -> set[Topic]:
    """Adopt orphans until there is none that the process would take now."""
    topics = set()
    while adopted := await context.records.adopt("gateway", member.process):
        topics.add(adopted[1].topic)
    return topics


async def has_ended(context: ProcessContext, topic: Topic) -> bool:
    """Return whether a record has ended."""
    record = await context.records.read(topic)
    assert record
    return record.get("final") == "1"


async def leave_orphans(valkey: Valkey) -> None:
    """Leave all of `TOPICS` to whoever adopts them, by an owner that died."""
    async with a_process(valkey) as (context, member):
        for topic in TOPICS:
            await context.records.create(topic, launch(), message_event("first"), process=member.process)
        await die(context, member)


async def test_a_record_that_kills_its_owners_takes_no_other_along(valkey: Valkey, context: ProcessContext) -> None:
    await leave_orphans(valkey)
    deaths = 0
    while not await has_ended(context, POISON):
        await sweep_as_another(context)
        async with a_process(valkey) as (process, member):
            if POISON in await adopt_all(process, member):
                await die(process, member)
                deaths += 1

    assert deaths == context.settings.adoptions_max
    assert [topic for topic in TOPICS if await has_ended(context, topic)] == [POISON]


async def test_processes_that_die_one_after_the_other_end_few_records(valkey: Valkey, context: ProcessContext) -> None:
    await leave_orphans(valkey)
    for _ in range(context.settings.adoptions_max + 1):
        await sweep_as_another(context)
        async with a_process(valkey) as (process, member):
            await adopt_all(process, member)
            await die(process, member)
    await sweep_as_another(context)

    assert sum([await has_ended(context, topic) for topic in TOPICS]) <= 1


async def test_suspects_are_adopted_by_ever_more_at_once(valkey: Valkey, context: ProcessContext) -> None:
    await leave_orphans(valkey)
    for _ in range(2):
        await sweep_as_another(context)
        async with a_process(valkey) as (process, member):
            assert await adopt_all(process, member) == set(TOPICS)
            await die(process, member)
    await sweep_as_another(context)

    async with a_process(valkey, adoption_trial_seconds=0.3) as (process, member):
        counts = []
        while await context.redis.exists(context.keys.orphans("gateway")):
            counts.append(len(await adopt_all(process, member)))
            assert not await process.records.orphans.end_trials()
            await until(process.records.orphans.end_trials, "the trial ends")
        assert counts == [1, 2, 2]

        await die(process, member)
    await sweep_as_another(context)
    async with a_process(valkey) as (process, member):
        assert await adopt_all(process, member) == set(TOPICS)  # none is a suspect any more


async def test_a_process_adopts_the_next_suspects_by_itself(valkey: Valkey, context: ProcessContext) -> None:
    await leave_orphans(valkey)
    for _ in range(2):
        await sweep_as_another(context)
        async with a_process(valkey) as (process, member):
            await adopt_all(process, member)
            await die(process, member)
    await sweep_as_another(context)
    adopted: set[Topic] = set()

    async def adopt(_record: OwnedRecord, stored: StoredRecord) -> None:
        adopted.add(stored.topic)
        await asyncio.Event().wait()

    settings = {"adoption_trial_seconds": 0.2, "lease_seconds": 2.0, "lease_renew_seconds": 0.05}
    async with another_context(valkey, reread_seconds=600, **settings) as process, living(process, on_adopt=adopt):
        await until(lambda: adopted == set(TOPICS), "all suspects are adopted")


async def test_a_death_counts_however_long_the_next_owner_takes_to_come(
    valkey: Valkey, context: ProcessContext
) -> None:
    no_time = {"adoption_trial_seconds": 0.0}  # by the clock, each trial is over as soon as it has begun
    await leave_orphans(valkey)
    for _ in range(2):
        await sweep_as_another(context)
        async with a_process(valkey, **no_time) as (process, member):
            await adopt_all(process, member)
            await die(process, member)
    await sweep_as_another(context)
    async with a_process(valkey, **no_time) as (process, member):
        assert len(await adopt_all(process, member)) == 1
