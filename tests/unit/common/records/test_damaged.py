"""A value in Redis that is damaged stops and loses nothing of others: records, lists of owners, orphans, processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from services.common.context import ProcessContext
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, create_record, launch, living, message_event
from tests.support.valkey import Valkey, another_context, die, member_of, sweeper_of

HEALTHY = [Topic(Kind.LAUNCH, f"healthy-{number}") for number in range(4)]
NO_EPOCHS = ["x", "", "nan", "0x10", "-1", "1.5", "9" * 30, b"\xff"]


def dropped(of: str) -> float:
    """Return how many entries of a list were dropped so far."""
    return sample("bindery_ownership_dropped_total", list=of)


async def create_healthy(context: ProcessContext, process: str) -> None:
    for topic in HEALTHY:
        await context.records.create(topic, launch(), message_event("first"), process=process)


async def adopted_by(context: ProcessContext, process: str) -> dict[Topic, OwnedRecord]:
    """Let a process adopt all orphans."""
    adopted = {}
    while claim := await context.records.adopt("gateway", process):
        adopted[claim[1].topic] = claim[0]
    return adopted


async def break_key(context: ProcessContext, key: str) -> None:
    """Leave a key that has another type than Bindery gives it."""
    await context.redis.delete(key)
    await context.redis.set(key, "damaged")


async def test_a_record_of_another_type_keeps_no_other_from_being_taken_over(context: ProcessContext) -> None:
    before = dropped("owned")
    dead = member_of(context)
    await dead.take_lease()
    await create_healthy(context, dead.process)
    await create_record(context, dead.process)
    await break_key(context, context.keys.record(TOPIC))
    await die(context, dead)

    sweeper = await sweeper_of(context)
    await sweeper.sweep_once()
    assert set(await adopted_by(context, sweeper.process)) == set(HEALTHY)
    assert dropped("owned") == before + 1
    assert not await context.redis.sismember(context.keys.processes("gateway"), dead.process)
    assert not await context.redis.exists(context.keys.owned(dead.process))


@pytest.mark.parametrize("epoch", NO_EPOCHS)
async def test_a_record_whose_epoch_is_no_number_is_taken_over_with_the_others(
    context: ProcessContext, epoch: str | bytes
) -> None:
    dead = member_of(context)
    await dead.take_lease()
    await create_healthy(context, dead.process)
    old = await create_record(context, dead.process)
    for _ in range(5):  # so that its epoch is above that of a record which begins anew
        await old.write(release=True)
        claim = await context.records.adopt("gateway", dead.process, topic=TOPIC)
        assert claim
        old = claim[0]
        await context.redis.hdel(context.keys.record(TOPIC), "on_trial")  # none of these was in vain
    await context.redis.hset(context.keys.record(TOPIC), "epoch", epoch)
    await die(context, dead)

    sweeper = await sweeper_of(context)
    await sweeper.sweep_once()
    adopted = await adopted_by(context, sweeper.process)
    assert set(adopted) == {*HEALTHY, TOPIC}
    with pytest.raises(Fenced):
        await old.write(message_event("too late"))
    await adopted[TOPIC].write(message_event("second"))


@pytest.mark.parametrize("epoch", NO_EPOCHS)
async def test_an_orphan_whose_epoch_is_no_number_is_adopted(context: ProcessContext, epoch: str | bytes) -> None:
    leaving = member_of(context)
    await leaving.take_lease()
    await create_record(context, leaving.process)
    await leaving.hand_over()
    await context.redis.hset(context.keys.record(TOPIC), "epoch", epoch)

    member = member_of(context)
    await member.take_lease()
    adopted = await adopted_by(context, member.process)
    await adopted[TOPIC].write(message_event("second"))
    assert not await context.redis.exists(context.keys.orphans("gateway"))


async def test_an_orphan_that_nobody_can_own_keeps_no_other_from_being_adopted(context: ProcessContext) -> None:
    before = dropped("orphans")
    leaving = member_of(context)
    await leaving.take_lease()
    await create_healthy(context, leaving.process)
    await create_record(context, leaving.process)
    await leaving.hand_over()
    await break_key(context, context.keys.record(TOPIC))
    await context.redis.sadd(context.keys.orphans("gateway"), "b:of-builders", "nonsense", b"l:\xff")

    member = member_of(context)
    await member.take_lease()
    assert set(await adopted_by(context, member.process)) == set(HEALTHY)
    assert dropped("orphans") == before + 3  # and an id without a record, which is none of these
    assert not await context.redis.exists(context.keys.orphans("gateway"))


async def test_names_that_are_no_records_in_the_list_of_an_owner_are_dropped(context: ProcessContext) -> None:
    before = dropped("owned")
    async with living(context) as member:
        await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        owned = context.keys.owned(member.process)
        await context.redis.sadd(owned, "nonsense", b"\xff", "s:of-launchers")
        await context.redis.srem(owned, TOPIC.name)
        await context.redis.delete(context.keys.record(TOPIC))

        async def is_mended() -> bool:
            names = await context.redis.smembers(owned)
            return names == {TOPIC.name.encode()} and await context.records.read(TOPIC) is not None

        await until(is_mended, seconds=10)
    assert dropped("owned") == before + 3


@pytest.mark.parametrize("damage", ["lost", "another type"])
async def test_the_list_of_an_owner_is_written_again(context: ProcessContext, damage: str) -> None:
    async with living(context) as member:
        record = await create_record(context, member.process)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        owned = context.keys.owned(member.process)
        if damage == "lost":
            await context.redis.delete(owned)
        else:
            await break_key(context, owned)
            await record.write(message_event("meanwhile"))

        async def is_listed() -> bool:
            return await context.redis.type(owned) == b"set" and bool(await context.redis.scard(owned))

        await until(is_listed, seconds=10)
        await record.write(message_event("afterwards"))
        assert member.owns(TOPIC)


async def test_a_dead_process_whose_list_is_damaged_keeps_no_other_from_being_released(context: ProcessContext) -> None:
    damaged = member_of(context)
    dead = member_of(context)
    for member in (damaged, dead):
        await member.take_lease()
    await create_healthy(context, dead.process)
    await break_key(context, context.keys.owned(damaged.process))
    for member in (damaged, dead):
        await die(context, member)

    sweeper = await sweeper_of(context)
    await sweeper.sweep_once()
    assert set(await adopted_by(context, sweeper.process)) == set(HEALTHY)
    assert await context.redis.smembers(context.keys.processes("gateway")) == {sweeper.process.encode()}


async def test_a_process_that_cannot_be_released_keeps_neither_others_nor_the_upkeep(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = 0

    async def on_sweep() -> None:
        nonlocal upkeep
        upkeep += 1

    dead = member_of(context)
    await dead.take_lease()
    await create_healthy(context, dead.process)
    sweeper = await sweeper_of(context)
    await sweeper.start(on_sweep=on_sweep)
    await context.redis.sadd(context.keys.processes("gateway"), *(f"gateway-bad-{number}" for number in range(8)))
    await die(context, dead)

    release = sweeper._sweeper.release

    async def release_or_fail(process: str, *, by_itself: bool = False) -> int:
        if "bad" in process:
            raise ValueError(process)
        return await release(process, by_itself=by_itself)

    monkeypatch.setattr(sweeper._sweeper, "release", release_or_fail)
    with pytest.raises(ValueError, match="gateway-bad"):
        await sweeper.sweep_once()
    assert upkeep == 1
    assert set(await adopted_by(context, sweeper.process)) == set(HEALTHY)


@pytest.fixture
async def gateway(valkey: Valkey, redis: Redis) -> AsyncIterator[ProcessContext]:
    """A process with the rights of a gateway, and no others."""
    async with another_context(valkey, redis_url=valkey.url_of("gateway")) as context:
        yield context


async def test_names_that_are_no_processes_are_dropped(gateway: ProcessContext, redis: Redis) -> None:
    before = dropped("processes")
    processes = gateway.keys.processes("gateway")
    dead = member_of(gateway)
    await dead.take_lease()
    await create_healthy(gateway, dead.process)
    await redis.sadd(processes, "nonsense", b"gateway-\xff", "launcher-a")
    await redis.delete(gateway.keys.alive(dead.process))

    sweeper = await sweeper_of(gateway)
    await sweeper.sweep_once()
    assert await redis.smembers(processes) == {sweeper.process.encode()}
    assert set(await adopted_by(gateway, sweeper.process)) == set(HEALTHY)
    assert dropped("processes") == before + 3


@pytest.mark.parametrize("adoptions", ["x", "nan", "1.5", "9" * 30])
async def test_a_damaged_count_of_adoptions_keeps_no_record_from_its_end(
    valkey: Valkey, redis: Redis, adoptions: str
) -> None:
    async with another_context(valkey, sweep_interval_seconds=0.05, lease_renew_seconds=0.05) as context:
        dead = member_of(context)
        await dead.take_lease()
        await create_record(context, dead.process)
        fields = {"body": "{", "failure": "earlier", "adoptions": adoptions}
        await context.redis.hset(context.keys.record(TOPIC), mapping=fields)
        await dead.hand_over()

        async def has_ended() -> bool:
            record = await context.records.read(TOPIC)
            return record is not None and record.get("final") == "1"

        async with living(context, on_adopt=never):
            await until(has_ended, "the record ends")


async def never(_record: OwnedRecord, _stored: StoredRecord) -> None:
    """Fail the test: what can't be read is not worked on."""
    raise AssertionError
