"""Refusals of Redis count as unavailability: what it refuses for now is tried again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.common.models import Event, Phase
from services.common.redis.client import REDIS_PY_UNAVAILABLE, connect, retry_while_unavailable
from services.common.redis.refused import RedisRefused, as_refused
from tests.support.polling import until
from tests.support.sample_records import TOPIC, launch
from tests.support.valkey import Valkey, another_context, member_of, refusals, service_settings, until_repeated

KEY = "bindery:default:key"
WRITING_SCRIPT = "return redis.call('SET', KEYS[1], '1')"
LONG_SCRIPT = "local n = 0; while n < 4e7 do n = n + 1 end; return n"


async def is_busy(redis: Redis) -> bool:
    try:
        await redis.ping()
    except ResponseError as error:
        return "BUSY" in str(error) or "busy" in str(error)
    return False


@contextlib.asynccontextmanager
async def refusing(redis: Redis, code: str) -> AsyncIterator[None]:
    """Make Redis refuse writes until the block ends."""
    settings = {
        "NOREPLICAS": {"min-replicas-to-write": "1"},
        "OOM": {"maxmemory": "1"},
        "BUSY": {"busy-reply-threshold": "1"},
    }[code]
    before = {name: (await redis.config_get(name))[name] for name in settings}
    for name, value in settings.items():
        await redis.config_set(name, value)

    script = asyncio.create_task(redis.eval(LONG_SCRIPT, 0)) if code == "BUSY" else None
    try:
        if script:
            await until(lambda: is_busy(redis), "a script that runs")
        yield
    finally:
        if script:
            await script
        for name, value in before.items():
            await redis.config_set(name, value)


@pytest.mark.parametrize("in_script", [False, True])
@pytest.mark.parametrize("code", ["NOREPLICAS", "OOM", "BUSY"])
async def test_a_refusal_counts_as_unavailable(code: str, in_script: bool, valkey: Valkey, redis: Redis) -> None:
    async with connect(service_settings(valkey)) as client:
        await client.ping()
        async with refusing(redis, code):
            write = client.eval(WRITING_SCRIPT, 1, KEY) if in_script else client.set(KEY, "1")
            with pytest.raises(RedisRefused, match=f"^{code} ") as refusal:
                await write
    assert isinstance(refusal.value, REDIS_PY_UNAVAILABLE)


def test_a_replica_without_its_master_counts_as_unavailable() -> None:
    error = ResponseError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
    assert isinstance(as_refused(error), RedisRefused)
    assert as_refused(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")) is None


async def test_a_pipeline_that_is_refused_is_repeated(valkey: Valkey, redis: Redis) -> None:
    async with connect(service_settings(valkey)) as client:

        async def write() -> list[bool]:
            async with client.pipeline() as pipe:
                pipe.set(KEY, "1")
                results: list[bool] = await pipe.execute()
                return results

        async with refusing(redis, "NOREPLICAS"):
            task = asyncio.create_task(retry_while_unavailable(write, seconds=10))
            await until_repeated(lambda: refusals(redis, "NOREPLICAS"))
            assert not task.done()
        assert await task == [True]


async def test_a_write_of_a_record_waits_for_a_redis_that_refuses(valkey: Valkey, redis: Redis) -> None:
    async with another_context(valkey) as context:
        member = member_of(context)
        await member.take_lease()
        record, _ = await context.records.create(TOPIC, launch(), Event(phase=Phase.RESOLVING), process=member.process)
        async with refusing(redis, "NOREPLICAS"):
            write = asyncio.create_task(record.write(Event(phase=Phase.BUILDING)))  # type: ignore[union-attr]
            await until_repeated(lambda: refusals(redis, "NOREPLICAS"))
            assert not write.done()
        await write
        stored = await context.records.read(TOPIC)
        assert stored is not None
        assert stored.get("lines") == "2"
