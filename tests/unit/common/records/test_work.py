"""The work of a process on its records."""

from services.common.context import ProcessContext
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
