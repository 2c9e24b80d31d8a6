"""A write that is cancelled, or gets no answer, at any moment: nothing is lost, told twice, or counted wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from services.builder.queue.log_excerpt import lines_of
from services.common.context import ProcessContext
from services.common.models import Event, LaunchState, Phase
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.streams.entries import Entry, StreamEvent, encode_events
from services.common.streams.event_format import PLAIN
from services.common.streams.log_store import stream_entries
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import launch, list_process, message_event
from tests.support.topic_followers import content_followed
from tests.support.valkey import Valkey, another_context

END = Event(phase=Phase.FAILED, message="end", terminal=True)


async def new_record(context: ProcessContext, topic: Topic) -> OwnedRecord:
    record, _ = await context.records.create(
        topic, launch(), message_event("0"), process=await list_process(context, "worker-a")
    )
    assert isinstance(record, OwnedRecord)
    return record


async def stored_messages(context: ProcessContext, topic: Topic) -> list[str]:
    """All messages that a reader of the log gets."""
    return [line.message for line in lines_of(await stream_entries(context.redis, context.keys, topic))]


class HeldAnswers:
    """Redis runs each script; the answer comes when it is released, or not at all."""

    def __init__(self, context: ProcessContext, monkeypatch: pytest.MonkeyPatch) -> None:
        self.carried_out = asyncio.Event()
        self.let_go = asyncio.Event()
        self._patch = monkeypatch
        run = context.records.scripts.run

        async def run_and_hold(name: str, keys: list[str], args: list[Any]) -> Any:
            answer = await run(name, keys, args)
            self.carried_out.set()
            await self.let_go.wait()
            return answer

        monkeypatch.setattr(context.records.scripts, "run", run_and_hold)

    def are_as_before(self) -> None:
        self._patch.undo()


@pytest.mark.parametrize("round_", range(4))
async def test_cancelled_at_any_moment_the_lines_and_the_end_are_told_once(
    context: ProcessContext, round_: int
) -> None:
    """The cancel comes after so many turns of the loop: before, in and after the call, its connection, its answer."""
    for turns in range(round_ * 15, round_ * 15 + 15):
        topic = Topic(Kind.BUILD, f"{turns}-1")
        record = await new_record(context, topic)
        confirmed = 0

        async def chatter(record: OwnedRecord = record) -> None:
            nonlocal confirmed
            for number in range(1, 1000):
                await record.write(message_event(str(number)), fields={"position": str(number)})
                confirmed = number

        task = asyncio.create_task(chatter())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await record.write(END, body=launch(LaunchState.FAILED), final=True)
        messages = await stored_messages(context, topic)
        lines = [str(number) for number in range(len(messages) - 1)]
        assert messages == [*lines, "end"]
        assert len(lines) - 1 in {confirmed, confirmed + 1}
        assert record.lines == len(messages)
        assert '"message": "end"' in await content_followed(context, topic, PLAIN)
        assert "missing here" not in await content_followed(context, topic, PLAIN)


async def test_a_cancel_waits_for_the_answer_that_is_on_its_way(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(context, topic)
    answers = HeldAnswers(context, monkeypatch)
    task = asyncio.create_task(record.write(message_event("1")))
    await answers.carried_out.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    answers.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (record.lines, record.confirmed_seq, len(record.recent_entries)) == (2, 2, 2)
    answers.are_as_before()
    await record.write(END, final=True)
    assert await stored_messages(context, topic) == ["0", "1", "end"]


@pytest.fixture
async def brief(valkey: Valkey, redis: Redis) -> AsyncIterator[ProcessContext]:
    """A process that gives up quickly on a Redis that does not answer."""
    async with another_context(valkey, redis_timeout_seconds=0.2, redis_patience_seconds=0.3) as context:
        yield context


@pytest.mark.parametrize("cancels", [1, 2])
async def test_an_answer_that_never_comes_holds_no_cancel_up_and_the_next_write_makes_up_for_it(
    brief: ProcessContext, monkeypatch: pytest.MonkeyPatch, cancels: int
) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(brief, topic)
    answers = HeldAnswers(brief, monkeypatch)
    task = asyncio.create_task(record.write(message_event("1"), message_event("2"), fields={"position": "2"}))
    await answers.carried_out.wait()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert record.lines == 1
    answers.are_as_before()
    await record.write(END, final=True)
    assert await stored_messages(brief, topic) == ["0", "1", "2", "end"]
    assert record.lines == 4
    answers.let_go.set()  # the answer of old changes nothing any more
    await asyncio.sleep(0)
    assert record.lines == 4


async def test_a_write_whose_answer_was_lost_with_redis_is_made_up_for_by_the_next(
    brief: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(brief, topic)
    run = brief.records.scripts.run

    async def loses_answers(*arguments: Any) -> Any:
        await run(*arguments)
        raise ConnectionError

    monkeypatch.setattr(brief.records.scripts, "run", loses_answers)
    with pytest.raises(REDIS_UNAVAILABLE):
        await record.write(message_event("1"))
    monkeypatch.undo()
    await record.write(END, final=True)
    assert await stored_messages(brief, topic) == ["0", "1", "end"]


async def test_a_write_that_redis_refuses_is_not_tried_again(context: ProcessContext) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(context, topic)
    with pytest.raises(Exception, match="Invalid input of type"):
        await record.write(message_event("1"), fields={"position": None})  # type: ignore[dict-item]
    await record.write(END, final=True)
    assert await stored_messages(context, topic) == ["0", "end"]


async def test_whose_noun_is_anothers_meanwhile_is_cancelled_all_the_same_and_then_fenced(
    context: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(context, topic)
    await context.redis.hset(context.keys.record(topic), "epoch", 2)
    before = sample("bindery_fenced_total", kind="b")
    answers = HeldAnswers(context, monkeypatch)
    task = asyncio.create_task(record.write(message_event("1")))
    await answers.carried_out.wait()
    task.cancel()
    answers.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sample("bindery_fenced_total", kind="b") == before + 1
    with pytest.raises(Fenced):
        await record.write(message_event("2"))
    assert await stored_messages(context, topic) == ["0"]


async def test_a_lost_record_is_restored_by_the_write_that_follows_a_cancelled_one(
    brief: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await new_record(brief, Topic(Kind.BUILD, "a-1"))
    answers = HeldAnswers(brief, monkeypatch)
    task = asyncio.create_task(record.write(message_event("1")))
    await answers.carried_out.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answers.are_as_before()
    await brief.redis.flushall()
    await list_process(brief, record.process)
    await record.write(message_event("2"))
    messages = [
        event["message"]
        for entry in await stream_entries(brief.redis, brief.keys, record.topic)
        for event in entry.events
    ]
    assert messages == ["0", "1", "2"]


async def test_a_local_follower_hears_of_a_cancelled_write(context: ProcessContext) -> None:
    topic = Topic(Kind.LAUNCH, "one")
    record = await new_record(context, topic)
    messages: list[str] = []

    async def follow() -> None:
        async for _, event in context.bus.events(topic):
            messages.append(event["message"])

    following = asyncio.create_task(follow())
    await until(lambda: messages == ["0"])
    task = asyncio.create_task(record.write(message_event("1")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await record.write(END, final=True)
    await asyncio.wait_for(following, 60)
    assert messages in (["0", "1", "end"], ["0", "end"])
    assert messages == await stored_messages(context, topic)


async def test_a_reader_that_hears_of_a_write_sees_what_its_writer_did_with_it(context: ProcessContext) -> None:
    topic = Topic(Kind.LAUNCH, "one")
    record = await new_record(context, topic)
    has_ended = False
    sees_the_end = None

    async def follow() -> None:
        nonlocal sees_the_end
        await context.bus.wait_for_end(topic)
        sees_the_end = has_ended

    following = asyncio.create_task(follow())
    await until(lambda: context.bus.is_followed(topic))
    await record.write(END, final=True)
    has_ended = True
    await asyncio.wait_for(following, 60)
    assert sees_the_end


def test_a_reader_is_told_the_end_whatever_it_counts() -> None:
    lines: list[StreamEvent] = [{"phase": "building", "message": str(number)} for number in range(3)]
    stale = Entry(id="2-0", number=2, lines=1, bytes_before=0, payload=encode_events([END]).encode())
    entries = [Entry(id="1-0", number=1, lines=0, bytes_before=0, payload=encode_events(lines).encode()), stale]
    assert [line.message for line in lines_of(entries)] == ["0", "1", "2", "end"]


async def test_a_follower_is_told_the_end_whatever_it_counts(context: ProcessContext) -> None:
    topic = Topic(Kind.BUILD, "a-1")
    record = await new_record(context, topic)
    await record.write(message_event("1"), message_event("2"))
    record.lines -= 2  # as an owner who never heard of these lines
    await record.write(END, final=True)
    assert '"message": "end"' in await content_followed(context, topic, PLAIN)
