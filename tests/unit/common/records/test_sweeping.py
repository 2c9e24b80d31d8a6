"""The sweep: one process of a service finds the dead, and takes nobody who lives for one of them."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from services.common.context import ProcessContext
from tests.support.polling import until
from tests.support.sample_records import (
    TOPIC,
    create_record,
    fields_of,
    living,
    message_event,
)
from tests.support.valkey import Valkey, another_context, die, member_of, sweeper_of


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


async def test_after_an_outage_a_sweeper_gives_all_others_time_to_renew(valkey: Valkey, redis: Redis) -> None:
    async with another_context(valkey, lease_seconds=1.5, lease_renew_seconds=0.5, lost_check_seconds=1) as context:
        overdue_seconds = 1.1 * (context.settings.lease_seconds - context.settings.lease_renew_seconds)
        sweeper = await sweeper_of(context)
        await sweeper.sweep_once()
        other = member_of(context)
        await other.take_lease()
        await create_record(context, other.process)

        # As if Redis had stood still: nobody could renew.
        await redis.delete(context.keys.alive(sweeper.process), context.keys.alive(other.process))
        await asyncio.sleep(overdue_seconds)
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
    async with another_context(valkey, lease_seconds=1.0, lease_renew_seconds=0.3, lost_check_seconds=1) as context:
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
