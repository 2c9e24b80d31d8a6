"""Leases in a real Redis: the dead are found, what they owned goes to the living, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.context import Stage, running
from services.common.models import Event, Launch, LaunchState, Phase
from services.common.records.leases import Member
from services.common.records.records import Claimed, Fenced, Stored
from services.common.redis.keys import Topic
from tests.support.valkey import Valkey, another_stage, die, member_of, settings_for
from tests.unit.common.records.test_records import created, launch, said, until

TOPIC = Topic("l", "one")


@asynccontextmanager
async def living(stage: Stage, **options: object) -> AsyncIterator[Member]:
    """A process that renews, adopts and sweeps."""
    member = member_of(stage, **options)  # type: ignore[arg-type]
    await member.begin()
    async with running(member.run()):
        yield member


async def test_what_a_dead_process_owned_is_adopted_once_and_the_dead_one_is_fenced(
    stage: Stage, valkey: Valkey
) -> None:
    adopted: list[Claimed] = []

    async def adopt(claimed: Claimed, _stored: Stored) -> None:
        adopted.append(claimed)
        await asyncio.Event().wait()

    dead = member_of(stage)
    await dead.begin()
    old = await created(stage, dead.process)
    async with another_stage(valkey) as other, living(stage, on_adopt=adopt), living(other, on_adopt=adopt):
        await die(stage, dead)
        await until(lambda: adopted)
        with pytest.raises(Fenced):
            await old.write(said("too late"))
        await adopted[0].write(said("second"))
        assert len(adopted) == 1
        assert adopted[0].epoch > old.epoch


async def test_nobody_takes_from_the_living(stage: Stage) -> None:
    async with living(stage) as owner:
        claimed = await created(stage, owner.process)
        owner.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        sweeper = member_of(stage)
        await sweeper.begin()
        await sweeper.sweep_once()
        await claimed.write(said("second"))


async def test_one_process_sweeps_and_another_when_it_dies(stage: Stage, valkey: Valkey) -> None:
    first, second = member_of(stage), member_of(stage)
    for member in (first, second):
        await member.begin()
        await member.sweep_once()
    assert (first.sweeping, second.sweeping) == (True, False)

    async def takes_over() -> bool:
        await second.sweep_once()
        return second.sweeping

    async with asyncio.timeout(10):
        while not await takes_over():
            await asyncio.sleep(0.05)


async def test_giving_up_hands_over_at_once(stage: Stage) -> None:
    leaving = member_of(stage)
    await leaving.begin()
    await created(stage, leaving.process)
    await leaving.give_up()
    other = member_of(stage)
    await other.begin()
    assert await stage.records.adopt("gateway", other.process)


async def test_a_process_without_a_lease_adopts_nothing(stage: Stage) -> None:
    dead = member_of(stage)
    await dead.begin()
    await created(stage, dead.process)
    await dead.give_up()
    assert await stage.records.adopt("gateway", dead.process) is None
    assert await stage.redis.scard(stage.keys.orphans("gateway")) == 1


async def test_adopting_again_after_a_lost_reply_finds_what_was_claimed(stage: Stage) -> None:
    member = member_of(stage)
    await member.begin()
    await created(stage, "gateway-dead")
    await stage.redis.hset(stage.keys.record(TOPIC), mapping={"owner": "", "claim": ""})
    await stage.redis.sadd(stage.keys.orphans("gateway"), "l:one")
    process, keys = member.process, stage.keys
    names = [keys.orphans("gateway"), keys.owned(process), keys.alive(process)]
    first = await stage.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 0])
    again = await stage.records.scripts.run("adopt", names, [process, "claim", keys.prefix, "", "", 1])
    assert first[:3] == again[:3] == [b"claimed", b"l:one", b"2"]


async def test_what_a_process_creates_after_its_lease_ran_out_is_found_by_the_sweep(stage: Stage) -> None:
    late = member_of(stage)
    await late.begin()
    await late.give_up()
    await created(stage, late.process)
    other = member_of(stage)
    await other.begin()
    await other.sweep_once()
    assert await stage.records.adopt("gateway", other.process)


async def test_a_process_whose_lease_ran_out_stops_its_work_and_goes_on_under_another_name(valkey: Valkey) -> None:
    settings = settings_for(valkey, lease_seconds=0.2, lease_renew_seconds=0.5)
    async with another_stage(valkey) as stage:
        await stage.redis.flushall()
        member = Member("gateway", stage.redis, stage.keys, stage.records, settings, sweeps=False)
        await member.begin()
        name = member.process
        claimed = await created(stage, name)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        async with running(member.run()):
            await until(lambda: member.process != name)
            assert not member.owns(TOPIC)
            with pytest.raises(Fenced):
                await claimed.write(said("too late"))


async def test_an_emptied_redis_costs_a_living_process_nothing(stage: Stage) -> None:
    async with living(stage) as member:
        name = member.process
        claimed = await created(stage, name, recreate=True)
        member.work(TOPIC, asyncio.Event().wait())  # type: ignore[arg-type]
        await stage.redis.flushall()

        async def is_back() -> bool:
            alive = await stage.redis.exists(stage.keys.alive(name))
            return bool(alive and await stage.records.read(TOPIC))

        async with asyncio.timeout(10):
            while not await is_back():
                await asyncio.sleep(0.02)
        assert member.process == name
        assert member.owns(TOPIC)
        await claimed.write(Event(phase=Phase.READY), body=launch(LaunchState.READY), final=True)
        found = await stage.records.read(TOPIC)
        assert found
        assert found.model(Launch).state is LaunchState.READY


async def test_a_noun_whose_owner_lives_but_knows_nothing_of_it_is_offered_to_all(stage: Stage) -> None:
    adopted: list[Stored] = []

    async def adopt(_claimed: Claimed, stored: Stored) -> None:
        adopted.append(stored)
        await asyncio.Event().wait()

    async with living(stage, on_adopt=adopt) as member:
        await created(stage, member.process)
        await until(lambda: adopted)
