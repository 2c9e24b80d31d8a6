"""Orphans: who adopts them, at which pace, and once."""

import asyncio

from redis.asyncio import Redis

from services.common.context import ProcessContext
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from tests.support.polling import until
from tests.support.sample_records import (
    TOPIC,
    LivingProcess,
    create_record,
    launch,
    living,
    message_event,
)
from tests.support.valkey import Valkey, another_context, member_of


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
            await until(lambda: adopted)


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
    first = await context.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 0, "l", 1])
    again = await context.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 1, "l", 1])
    assert first[:3] == again[:3] == [b"claimed", b"l:one", b"2"]


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


async def test_a_named_record_that_is_no_hash_is_adopted_by_nobody(context: ProcessContext) -> None:
    member = member_of(context)
    await member.take_lease()
    await context.redis.set(context.keys.record(TOPIC), "no hash")
    assert await context.records.adopt("gateway", member.process, topic=TOPIC) is None
