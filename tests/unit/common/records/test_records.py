"""Nouns in a real Redis: every write compares epoch and claim first, and is safe to repeat."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchState, Phase
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.records import EarlierCreation, IdempotencyKey, ProcessLeaves
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic, service_of
from services.common.redis.scripts import ScriptArg
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import (
    TOPIC,
    LivingProcess,
    LosesItsLastSecond,
    create_record,
    entries_of,
    fields_of,
    launch,
    list_process,
    message_event,
    messages_of,
)
from tests.support.valkey import Valkey, another_context, calls, member_of, until_repeated


async def test_a_created_record_is_read_back_and_a_second_claim_finds_it(context: ProcessContext) -> None:
    await create_record(context)
    stored = await context.records.read(TOPIC)
    assert stored
    assert stored.model(Launch).launch_ref == "ref"
    assert stored.get("request") == "kept"
    again, _ = await context.records.create(TOPIC, launch(), message_event("second"), process="gateway-b")
    assert isinstance(again, StoredRecord)
    assert await messages_of(context) == ["first"]


async def test_creating_again_after_a_lost_reply_answers_as_the_first_time(
    context: ProcessContext, redis: Redis
) -> None:
    keys = context.keys
    names = [keys.record(TOPIC), keys.events(TOPIC), keys.owned("p"), keys.alive("p"), "ps", keys("idempotency:k")]
    await redis.sadd("ps", "p")
    args: list[ScriptArg] = ["l:one", "p", "claim", keys.news(TOPIC), "value", 60_000, 1, "state", "resolving", 1, "[]"]
    first = await context.records.scripts.run("create", names, args)
    assert first[0] == b"created"
    assert await context.records.scripts.run("create", names, args) == first
    assert await redis.xlen(keys.events(TOPIC)) == 1
    args[2] = "another"
    assert await context.records.scripts.run("create", names, args) == [b"known", b"value"]


async def test_a_second_creation_under_an_idempotency_key_gets_the_value_of_the_first(
    context: ProcessContext, redis: Redis
) -> None:
    await list_process(context, "gateway-a")
    first = IdempotencyKey(key=context.keys("idempotency:k"), value="one", ttl_ms=60_000)
    record, _ = await context.records.create(
        TOPIC, launch(), message_event("first"), process="gateway-a", idempotency_key=first
    )
    assert isinstance(record, OwnedRecord)
    assert 0 < await redis.pttl(first.key) <= 60_000

    other = Topic(Kind.LAUNCH, "two")
    second = IdempotencyKey(key=first.key, value="two", ttl_ms=60_000)
    earlier, _ = await context.records.create(
        other, launch(), message_event("second"), process="gateway-a", idempotency_key=second
    )
    assert earlier == EarlierCreation("one")
    assert await context.records.read(other) is None
    assert await redis.get(first.key) == b"one"


async def test_a_process_without_a_lease_creates_nothing_until_it_has_taken_it(
    context: ProcessContext, redis: Redis
) -> None:
    member = member_of(context)
    creation = context.records.create(TOPIC, launch(), message_event("first"), process=member.process)
    creating = asyncio.create_task(creation)
    await until_repeated(lambda: calls(redis, "evalsha"))
    assert not creating.done()
    assert not await redis.exists(context.keys.record(TOPIC))

    assert service_of(member.process) == "gateway"
    await member.take_lease()
    record, _ = await creating
    assert isinstance(record, OwnedRecord)
    assert await redis.smembers(context.keys.processes("gateway")) == {member.process.encode()}


async def test_a_process_that_has_handed_over_creates_nothing_and_waits_for_no_lease(
    context: ProcessContext, redis: Redis
) -> None:
    member = member_of(context)
    under_way = asyncio.create_task(
        context.records.create(TOPIC, launch(), message_event("first"), process=member.process)
    )
    await until_repeated(lambda: calls(redis, "evalsha"))  # it waits for the lease
    await member.hand_over()
    async with asyncio.timeout(60):
        with pytest.raises(ProcessLeaves):
            await under_way
        with pytest.raises(ProcessLeaves):
            await context.records.create(TOPIC, launch(), message_event("first"), process=member.process)
    assert not await redis.exists(context.keys.record(TOPIC))


async def test_a_write_of_an_owner_of_old_is_fenced_and_counted(context: ProcessContext) -> None:
    async with LivingProcess(context, "gateway") as new:
        old = await create_record(context, new)
        await context.redis.hset(context.keys.record(TOPIC), mapping={"owner": "", "claim": "", "epoch": 2})
        stored = await context.records.adopt("gateway", new, topic=TOPIC)
        assert stored
        assert stored[0].epoch == 3
        before = sample("bindery_fenced_total", kind="l")
        with pytest.raises(Fenced):
            await old.write(message_event("too late"))
        assert sample("bindery_fenced_total", kind="l") == before + 1
        await stored[0].write(message_event("second"))
        assert await messages_of(context) == ["first", "second"]


async def test_a_write_repeated_under_its_number_is_one_write(context: ProcessContext) -> None:
    record = await create_record(context)
    await record.write(message_event("second"))
    record.seq -= 1
    await record.write(message_event("second"))
    assert await messages_of(context) == ["first", "second"]


async def test_a_final_state_never_changes(context: ProcessContext) -> None:
    record = await create_record(context)
    await record.write(message_event("end"), body=launch(LaunchState.READY), final=True)
    with pytest.raises(Fenced):
        await record.write(message_event("more"), body=launch(LaunchState.FAILED))
    stored = await context.records.read(TOPIC)
    assert stored
    assert stored.model(Launch).state is LaunchState.READY
    assert await context.redis.pttl(context.keys.record(TOPIC)) > 0
    assert not await context.redis.exists(context.keys.owned("gateway-a"))


async def test_concurrent_writes_of_one_owner_are_all_kept(context: ProcessContext) -> None:
    record = await create_record(context)
    await asyncio.gather(*(record.write(message_event(str(number))) for number in range(50)))
    assert await messages_of(context) == ["first", *(str(number) for number in range(50))]


async def test_a_lost_last_second_comes_back_under_the_positions_it_had(context: ProcessContext) -> None:
    record = await create_record(context)
    loss = LosesItsLastSecond(context)
    await record.write(message_event("second"))
    await loss.keep()
    await record.write(message_event("third"), body=launch(LaunchState.BUILDING), fields={"position": "7"})
    await record.write(fields={"position": "8"})
    before = await entries_of(context)
    await loss.come_back()
    assert await messages_of(context) == ["first", "second"]
    await record.write(message_event("fourth"))
    after = await entries_of(context)
    assert [entry.id for entry in after][:-1] == [entry.id for entry in before]
    assert await messages_of(context) == ["first", "second", "third", "fourth"]
    assert [entry.lines for entry in after] == [0, 1, 2, 3]
    stored = await context.records.read(TOPIC)
    assert stored
    assert (stored.get("position"), stored.model(Launch).state) == ("8", LaunchState.BUILDING)


async def test_followers_elsewhere_hear_nothing_twice_when_it_comes_back(
    context: ProcessContext, valkey: object
) -> None:
    async with another_context(valkey) as other:  # type: ignore[arg-type]
        record = await create_record(context)
        loss = LosesItsLastSecond(context)
        await loss.keep()
        messages: list[str] = []

        async def follow() -> None:
            async for _, event in other.bus.events(TOPIC):
                messages.append(event["message"])

        following = asyncio.create_task(follow())
        await record.write(message_event("second"))
        await until(lambda: messages == ["first", "second"])
        await loss.come_back()
        await record.write(Event(phase=Phase.READY, message="end", terminal=True))
        await asyncio.wait_for(following, 60)
        assert messages == ["first", "second", "end"]


async def test_the_next_write_restores_a_record_that_an_emptied_redis_lost(context: ProcessContext) -> None:
    record = await create_record(context)
    await context.redis.flushall()
    await list_process(context, record.process)
    await record.write(message_event("second"))
    assert await messages_of(context) == ["first", "second"]
    stored = await context.records.read(TOPIC)
    assert stored
    assert (stored.get("request"), stored.get("owner")) == ("kept", "gateway-a")


async def test_a_record_is_restored_only_for_an_owner_that_a_sweep_would_find(context: ProcessContext) -> None:
    record = await create_record(context)
    await context.redis.flushall()
    writing = asyncio.create_task(record.write(message_event("second")))
    await until_repeated(lambda: calls(context.redis, "evalsha"))
    assert not writing.done()
    assert await context.records.read(TOPIC) is None

    await list_process(context, record.process)
    await writing
    assert await messages_of(context) == ["first", "second"]


async def test_the_later_one_of_two_owners_that_both_restore_has_the_record(
    context: ProcessContext, valkey: Valkey
) -> None:
    """The earlier one was paused when another process adopted its record, and wakes just after Redis was emptied."""
    async with another_context(valkey) as elsewhere:
        earlier = await create_record(context)
        await release_by_hand(context, earlier.process)
        later_process = member_of(elsewhere)
        await later_process.take_lease()
        adopted = await elsewhere.records.adopt("gateway", later_process.process)
        assert adopted
        later, _ = adopted
        await later.write(message_event("second"))

        await context.redis.flushall()
        await list_process(context, earlier.process)
        await later_process.take_lease()
        await earlier.write(message_event("too late"))
        await later.write(message_event("third"))

        with pytest.raises(Fenced):
            await earlier.write(message_event("much too late"))
        stored = await context.records.read(TOPIC)
        assert stored
        assert (stored.get("owner"), stored.epoch) == (later.process, later.epoch)
        assert (await messages_of(context))[-2:] == ["second", "third"]


async def test_an_owner_that_kept_the_epoch_restores_its_claim_unless_another_has_claimed_the_record(
    context: ProcessContext,
) -> None:
    """A build is claimed in this way, under the epoch of its job; a failover may lose the claim alone."""
    async with LivingProcess(context, "gateway") as process, LivingProcess(context, "gateway") as other:
        creator = await create_record(context)
        await creator.write(release=True)
        loss = LosesItsLastSecond(context)
        await loss.keep()
        adopted = await context.records.adopt("gateway", process, topic=TOPIC, epoch=1)
        assert adopted
        owner, _ = adopted
        await owner.write(message_event("second"))
        positions = [entry.id for entry in await entries_of(context)]

        await loss.come_back()
        await owner.write(message_event("third"))
        assert await fields_of(context, "owner", "claim", "epoch") == [process, owner.claim, "1"]
        assert await messages_of(context) == ["first", "second", "third"]
        assert [entry.id for entry in await entries_of(context)][:2] == positions
        assert await context.redis.sismember(context.keys.owned(process), TOPIC.name)

        await loss.come_back()
        assert await context.records.adopt("gateway", other, topic=TOPIC, epoch=1)
        with pytest.raises(Fenced):
            await owner.write(message_event("too late"))


async def release_by_hand(context: ProcessContext, process: str) -> None:
    """Turn what a process owns into orphans, as a sweeper does."""
    sweeper = member_of(context)
    await sweeper._sweeper.release(process, by_itself=True)


async def test_a_record_is_restored_whole(context: ProcessContext) -> None:
    record = await create_record(context)
    await record.write(message_event("second"), body=launch(LaunchState.BUILDING))
    before = [entry.id for entry in await entries_of(context)]
    await context.redis.flushall()
    await list_process(context, record.process)
    assert await context.records.restore(TOPIC)
    stored = await context.records.read(TOPIC)
    assert stored
    assert (stored.get("request"), stored.model(Launch).state) == ("kept", LaunchState.BUILDING)
    assert [entry.id for entry in await entries_of(context)] == before
    assert await context.redis.smembers(context.keys.owned("gateway-a")) == {b"l:one"}
