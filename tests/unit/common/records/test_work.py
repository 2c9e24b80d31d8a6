"""The work of a process on its records."""

import io

import pytest
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.context import ProcessContext
from services.common.redis.refused import RedisRefused
from tests.support.logs import line_of
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, create_record, living


async def test_work_that_fails_is_counted(context: ProcessContext) -> None:
    before = sample("bindery_work_failures_total", kind="l")

    async def fail() -> None:
        raise ValueError("an error that nobody has thought of")

    async with living(context) as member:
        await create_record(context, member.process)
        member.work(TOPIC, fail())
        await until(lambda: not member.owns(TOPIC))
    assert sample("bindery_work_failures_total", kind="l") == before + 1


@pytest.mark.parametrize(
    "outage", [RedisConnectionError("gone"), BusyLoadingError("reads"), RedisRefused("OOM too much")], ids=str
)
async def test_work_that_an_outage_of_redis_ends_is_no_failure(
    context: ProcessContext, logs: io.StringIO, outage: Exception
) -> None:
    before = sample("bindery_work_failures_total", kind="l")

    async def fail() -> None:
        raise outage

    async with living(context) as member:
        await create_record(context, member.process)
        member.work(TOPIC, fail())
        await until(lambda: not member.owns(TOPIC))

    assert sample("bindery_work_failures_total", kind="l") == before
    line = line_of(logs, "redis_away")
    assert (line["level"], line["noun"], line["error"]) == ("warning", TOPIC.name, str(outage))
    assert "work_ended" not in logs.getvalue()
    assert "Traceback" not in logs.getvalue()
