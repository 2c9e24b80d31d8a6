"""A launch's stream alone: resumed at any position, it continues as if it had never broken off."""

import asyncio

import pytest

from services.common.context import ProcessContext
from services.common.models import Phase
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.streams.log_store import stream_entries
from services.gateway.streaming.launch_stream import LaunchPosition
from tests.support.launch_followers import (
    BUILD_ID,
    LAUNCH,
    WHOLE,
    Follower,
    a_build,
    a_launch,
    a_whole_launch,
    follow_launch,
    log_event,
    opens,
    the_end,
)
from tests.support.polling import until

# Positions


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("L~5-1.2~-", LaunchPosition(launch_id="L", entry="5-1", events=2)),
        ("L~5-1.2~7-0.3", LaunchPosition(launch_id="L", entry="5-1", events=2, topic_entry="7-0", topic_events=3)),
        (" L~5~ ", LaunchPosition(launch_id="L", entry="5-0", events=0)),
        ("L~0-0.0~0-0.0", LaunchPosition(launch_id="L", entry="0-0", events=0, topic_entry="0-0", topic_events=0)),
    ],
)
def test_a_position_is_read(text: str, position: LaunchPosition) -> None:
    assert LaunchPosition.parse(text) == position


@pytest.mark.parametrize(
    "number",
    ["-1", "5-1.-2", "5--1.2", "x", "1_0", "+1", "٣", "", "5-1.2.3", str(2**64), f"5-{2**64}.1", "5.9" + "9" * 19],
)
def test_an_invalid_position_is_refused(number: str) -> None:
    assert LaunchPosition.parse(f"L~{number}~-") is None
    if number:
        assert LaunchPosition.parse(f"L~5-1.2~{number}") is None


# Following


async def test_from_the_beginning_everything_is_told_in_order(context: ProcessContext) -> None:
    await a_whole_launch(context)
    assert (await follow_launch(context)).messages == WHOLE


async def test_from_every_position_the_rest_is_told(context: ProcessContext) -> None:
    """In the middle of a launch's entry, in the middle of a topic's, after the end of the topic."""
    await a_whole_launch(context)
    ids = (await follow_launch(context)).ids
    rests = [(await follow_launch(context, at)).messages for at in ids]
    # The end of the build has an id, but is not told: the launch tells what it meant.
    expected = [WHOLE[number + 1 :] for number in range(8)] + [WHOLE[number:] for number in range(8, 12)]
    assert rests == [*expected, ["end"]]  # who has the end is told the end again


@pytest.mark.parametrize("events", [5, 99, 2**63])
async def test_more_events_than_the_entry_has_are_all_of_it(context: ProcessContext, events: int) -> None:
    await a_whole_launch(context)
    first, second, *_ = await stream_entries(context.redis, context.keys, LAUNCH)
    topic = (await stream_entries(context.redis, context.keys, Topic(Kind.BUILD, BUILD_ID)))[1]
    assert (await follow_launch(context, f"one~{first.id}.{events}~-")).messages == WHOLE[1:]
    assert (await follow_launch(context, f"one~{second.id}.{events}~-")).messages == ["l4", "l5", "end"]
    assert (await follow_launch(context, f"one~{second.id}.{events}~{topic.id}.1")).messages == ["l4", "l5", "end"]
    assert (await follow_launch(context, f"one~{second.id}.3~{topic.id}.{events}")).messages == [
        "l3",
        "l4",
        "l5",
        "end",
    ]


@pytest.mark.parametrize("at", ["0-0.7~-", "0-0.0~0-0.7", "9999999999999-0.0~-", "9999999999999-0.3~5-5.1"])
async def test_a_made_up_position_breaks_nothing(context: ProcessContext, at: str) -> None:
    await a_whole_launch(context)
    assert (await follow_launch(context, f"one~{at}")).messages[-1] == "end"


async def test_a_launch_without_an_opened_topic_at_the_position_goes_on_with_itself(context: ProcessContext) -> None:
    await a_whole_launch(context)
    first = (await stream_entries(context.redis, context.keys, LAUNCH))[0]
    assert (await follow_launch(context, f"one~{first.id}.1~5-5.1")).messages == WHOLE[1:]
    assert (await follow_launch(context, f"one~{first.id}.0~5-5.1")).messages[-1] == "end"


# Gaps


async def _trimmed(context: ProcessContext) -> tuple[OwnedRecord, list[str]]:
    """A build under way whose entries after the second and before the last but one are gone; all ids before that."""
    launch = await a_launch(context)
    build = await a_build(context)
    await launch.write(opens())
    for number in range(1, 8):
        await build.write(log_event(f"b{number}"), log_event(f"b{number}+"))
    ids = (await follow_launch(context, until_quiet=True)).ids
    topic = Topic(Kind.BUILD, BUILD_ID)
    entries = await stream_entries(context.redis, context.keys, topic)
    await context.redis.xdel(context.keys.events(topic), *(entry.id for entry in entries[2:6]))
    context.bus.readers.clear()  # as in another process
    return launch, ids


TAIL = ["b6", "b6+", "b7", "b7+"]


async def test_a_follower_that_begins_after_trimming_is_told_how_much_is_missing(context: ProcessContext) -> None:
    await _trimmed(context)
    follower = await follow_launch(context, until_quiet=True)
    assert follower.messages == ["begin", "opens", "b0", "b1", "b1+", "8 lines are missing here.", *TAIL]
    gap = follower.events[5]
    assert (gap["phase"], gap["lines"]) == ("gap", 8)


async def test_a_follower_resumes_before_at_or_after_the_trimmed_entries(context: ProcessContext) -> None:
    _launch, ids = await _trimmed(context)
    messages_after = {at: (await follow_launch(context, at, until_quiet=True)).messages for at in ids[2:]}
    rests = list(messages_after.values())
    assert rests[1] == ["b1+", "8 lines are missing here.", *TAIL]
    for rest in rests[3:10]:  # what was missed of that nobody can tell any more
        assert rest == ["Some lines are missing here.", *TAIL]
    assert rests[11:] == [TAIL[1:], TAIL[2:], TAIL[3:], []]


async def test_a_follower_that_breaks_off_right_after_a_gap_misses_nothing_behind_it(context: ProcessContext) -> None:
    await _trimmed(context)
    follower = await follow_launch(context, until_quiet=True)
    gap = follower.messages.index("8 lines are missing here.")
    assert (await follow_launch(context, follower.ids[gap], until_quiet=True)).messages == TAIL


# Ends of topics


async def test_a_topic_that_is_gone_is_read_from_the_log_store(context: ProcessContext) -> None:
    await a_whole_launch(context)
    topic = Topic(Kind.BUILD, BUILD_ID)
    ids = (await follow_launch(context)).ids
    await context.logs.put(BUILD_ID, await stream_entries(context.redis, context.keys, topic), is_public=True)
    await context.redis.delete(context.keys.events(topic))
    context.bus.readers.clear()
    assert (await follow_launch(context)).messages == WHOLE
    assert (await follow_launch(context, ids[5])).messages == WHOLE[6:]


async def test_a_topic_that_is_gone_with_its_log_is_passed_over(context: ProcessContext) -> None:
    await a_whole_launch(context)
    topic = Topic(Kind.BUILD, BUILD_ID)
    await context.redis.delete(context.keys.events(topic), context.keys.record(topic))
    context.bus.readers.clear()
    assert (await follow_launch(context)).messages == [*WHOLE[:4], *WHOLE[8:]]


async def test_a_launch_that_is_cancelled_does_not_wait_for_its_topic(context: ProcessContext) -> None:
    launch = await a_launch(context)
    build = await a_build(context)
    await launch.write(opens())
    await build.write(log_event("b1"))
    follower = Follower()
    following = asyncio.create_task(follower.follow(context, LaunchPosition(launch_id="one")))
    await until(lambda: "b1" in follower.messages)
    await launch.write(the_end("cancelled", Phase.CANCELLED), final=True)
    await following
    expected = ["begin", "opens", "b0", "b1", "cancelled"]
    assert follower.messages == expected
    for number, at in enumerate(follower.ids[:-1]):
        assert (await follow_launch(context, at)).messages == expected[number + 1 :]


async def test_a_failed_attempt_is_followed_by_the_next(context: ProcessContext) -> None:
    other = BUILD_ID[:-1] + "2"
    launch = await a_launch(context)
    for build_id in (BUILD_ID, other):
        build = await a_build(context, build_id)
        await launch.write(opens(build_id))
        failed = build_id == BUILD_ID
        await build.write(log_event(f"in {build_id[-1]}"))
        phase = Phase.FAILED if failed else Phase.BUILT
        await build.write(log_event("over", phase, terminal=True), final=True)
    await launch.write(the_end(), final=True)
    follower = await follow_launch(context)
    assert follower.messages == ["begin", "opens", "b0", "in 1", "opens", "b0", "in 2", "end"]
    assert [event.get("build_id") for event in follower.events if "build_id" in event] == [BUILD_ID, other]
    assert (await follow_launch(context, follower.ids[3])).messages == ["opens", "b0", "in 2", "end"]
