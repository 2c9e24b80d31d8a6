"""A follower that is further behind than one read from Redis returns gets all of a topic, though nothing wakes it."""

import asyncio

import pytest

from services.common.context import ProcessContext
from services.common.models import Phase
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.streams import reader
from services.common.streams.log_store import stream_entries
from services.gateway.streaming.event_formats import V1
from services.gateway.streaming.launch_stream import LaunchPosition
from tests.support.launch_followers import (
    BUILD_ID,
    Follower,
    a_build,
    a_launch,
    follow_launch,
    log_event,
    opens,
    the_end,
)
from tests.support.polling import until
from tests.support.topic_followers import content_followed

BUILD = Topic(Kind.BUILD, BUILD_ID)
ENTRIES = 12
EXPECTED = ["b0", *(f"line {number}" for number in range(1, ENTRIES)), "over"]


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a reader buffer an entry or two, and read so many at a time."""
    monkeypatch.setattr(reader, "FETCH_COUNT", 3)
    monkeypatch.setattr(reader, "BUFFER_BYTES", 150)


async def a_launch_with_a_long_build(context: ProcessContext, *, has_ended: bool = True) -> OwnedRecord:
    """Write the build, the last entry of which is its end if it `has_ended`, and the launch's entry that opens it."""
    launch = await a_launch(context)
    build = await a_build(context)
    await launch.write(opens())
    for message in EXPECTED[1:-1]:
        await build.write(log_event(message))
    await build.write(log_event("over", Phase.FAILED if has_ended else Phase.BUILDING, terminal=has_ended))
    context.bus.readers.clear()  # as in another process
    return launch


async def test_the_whole_log_of_a_build_that_has_ended_is_told(context: ProcessContext) -> None:
    launch = await a_launch_with_a_long_build(context)
    await launch.write(the_end("failed", Phase.FAILED), final=True)
    # The launch's own end takes the place of the build's.
    assert (await follow_launch(context)).messages == ["begin", "opens", *EXPECTED[:-1], "failed"]


async def test_the_whole_log_is_told_when_the_launch_ended_before_its_build(context: ProcessContext) -> None:
    launch = await a_launch_with_a_long_build(context, has_ended=False)
    await launch.write(the_end("cancelled", Phase.CANCELLED), final=True)
    assert (await follow_launch(context)).messages == ["begin", "opens", *EXPECTED, "cancelled"]


async def test_what_a_build_writes_after_the_end_of_the_launch_is_not_awaited(context: ProcessContext) -> None:
    launch = await a_launch_with_a_long_build(context, has_ended=False)
    follower = Follower()
    following = asyncio.create_task(follower.follow(context, LaunchPosition(launch_id="one")))
    await until(lambda: "over" in follower.messages)
    await launch.write(the_end("cancelled", Phase.CANCELLED), final=True)
    await following
    assert follower.messages == ["begin", "opens", *EXPECTED, "cancelled"]


@pytest.mark.parametrize("has_expired", [False, True])
async def test_the_whole_log_of_a_build_without_a_launch_is_told(context: ProcessContext, has_expired: bool) -> None:
    """In the second case the stream expires under the follower: the log is in the store."""
    await a_launch_with_a_long_build(context)
    await context.logs.put(BUILD_ID, await stream_entries(context.redis, context.keys, BUILD), is_public=True)

    async def expire() -> None:
        await context.redis.delete(context.keys.events(BUILD))

    content = await content_followed(context, BUILD, V1, on_chunk=expire if has_expired else None)
    assert [content.count(f'"{message}\\n"') for message in EXPECTED] == [1] * len(EXPECTED), content


async def test_all_events_of_a_topic_are_read(context: ProcessContext) -> None:
    await a_launch_with_a_long_build(context)
    async with asyncio.timeout(60):
        messages = [event["message"].strip() async for _, event in context.bus.events(BUILD)]
    assert messages == EXPECTED
