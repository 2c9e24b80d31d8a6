"""The context of a process: how it ends."""

import asyncio
import io

import pytest

from services.common.context import ProcessContext, service_member
from services.common.records.leases import ServiceMember
from tests.support.sample_records import TOPIC, create_record
from tests.support.valkey import Valkey, another_context


async def test_a_hand_over_waits_for_work_that_ends_late_but_in_its_time(valkey: Valkey) -> None:
    async with another_context(valkey, redis_timeout_seconds=1.0) as context:
        late_seconds = 1.5 * context.settings.redis_timeout_seconds  # longer than a call of Redis may take
        await context.redis.flushall()
        has_ended = asyncio.Event()

        async def ends_late() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(late_seconds)
                has_ended.set()

        async with service_member(context, "gateway") as member:
            await create_record(context, member.process)
            member.work(TOPIC, ends_late())
            await asyncio.sleep(0)

        assert has_ended.is_set()
        assert not await context.redis.exists(context.keys.alive(member.process))


async def test_a_hand_over_that_fails_is_logged_and_the_process_ends(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    async def broken(_: ServiceMember) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(ServiceMember, "hand_over", broken)
    async with service_member(context, "gateway"):
        pass
    assert "hand_over_failed" in logs.getvalue()
    assert "ValueError: a bug" in logs.getvalue()
