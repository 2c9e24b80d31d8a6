"""The bus against a real Redis: nothing is missed or delivered twice, even if wake-ups or Redis are lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.common.context import ProcessContext, open_context
from services.common.models import Event, Phase
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.streams.positions import STREAM_START
from services.common.streams.reader import Reader
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, LivingProcess, create_record, list_process, message_event
from tests.support.valkey import Valkey, another_context, running_valkey, service_settings, sweeper_of


@contextmanager
def following(context: ProcessContext, after: str = STREAM_START) -> Iterator[list[str]]:
    """What a follower of the topic hears, as it happens."""
    messages: list[str] = []

    async def follow() -> None:
        async for _, event in context.bus.events(TOPIC, after):
            messages.append(event["message"])

    task = asyncio.create_task(follow())
    try:
        yield messages
    finally:
        task.cancel()


async def append_unheard(context: ProcessContext, record: OwnedRecord, message: str) -> None:
    """Write as the owner does, with a wake-up that goes astray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.keys, "news", lambda _topic: "astray")
        await record.write(message_event(message))


@pytest.fixture
async def other(valkey: Valkey, context: ProcessContext) -> Any:
    """Another process, which follows what `context` writes."""
    async with another_context(valkey) as other:
        yield other


async def test_a_follower_hears_what_was_before_it_and_what_comes_after(
    context: ProcessContext, other: ProcessContext
) -> None:
    record = await create_record(context)
    await record.write(message_event("second"))
    with following(other) as messages:
        await until(lambda: messages == ["first", "second"])
        await record.write(message_event("third"), message_event("fourth"))
        await until(lambda: messages == ["first", "second", "third", "fourth"])


async def test_a_follower_goes_on_from_a_position(context: ProcessContext, other: ProcessContext) -> None:
    record = await create_record(context)
    await record.write(message_event("second"))
    with following(other, record.recent_entries[-1].position) as messages:
        await record.write(message_event("third"))
        await until(lambda: messages == ["third"])


async def test_a_lost_wake_up_is_made_good_by_the_next_one(context: ProcessContext, other: ProcessContext) -> None:
    record = await create_record(context)
    with following(other) as messages:
        await until(lambda: messages == ["first"])
        await append_unheard(context, record, "second")
        await record.write(message_event("third"))
        await until(lambda: messages == ["first", "second", "third"])


async def test_a_lost_wake_up_without_a_next_one_is_made_good_by_reading_again(
    context: ProcessContext, other: ProcessContext
) -> None:
    record = await create_record(context)
    with following(other) as messages:
        await until(lambda: messages == ["first"])
        await append_unheard(context, record, "second")
        await until(lambda: messages == ["first", "second"])


async def test_a_read_that_fails_is_counted_and_made_good_by_the_next_one(
    context: ProcessContext, other: ProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Reader) -> None:
        raise ValueError("a bug")

    def failures() -> float:
        return sample("bindery_loop_failures_total", loop="bus_read")

    record = await create_record(context)
    with following(other) as messages:
        await until(lambda: messages == ["first"])
        before = failures()
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "read", broken)
            await append_unheard(context, record, "second")
            await until(lambda: failures() > before)
        await until(lambda: messages == ["first", "second"])


async def test_entries_that_are_read_again_are_not_delivered_again(
    context: ProcessContext, other: ProcessContext
) -> None:
    record = await create_record(context)
    with following(other) as messages:
        await until(lambda: messages == ["first"])
        reader = other.bus.readers[TOPIC]
        for number in range(20):
            await asyncio.gather(record.write(message_event(str(number))), reader.read(), reader.read())
        await until(lambda: len(messages) == 21)
        await reader.read()
        assert messages == ["first", *(str(number) for number in range(20))]


async def test_a_wake_up_in_its_turn_is_taken_without_reading(context: ProcessContext, other: ProcessContext) -> None:
    record = await create_record(context)
    with following(other) as messages:
        await until(lambda: messages == ["first"])
        reader = other.bus.readers[TOPIC]
        before = reader.last
        assert before
        await append_unheard(context, record, "second")
        second = record.recent_entries[-1]
        message = f"{before.id} {second.position} {second.number} 1 0 {second.payload}".encode()
        assert reader.on_message(message)
        assert reader.on_message(message)
        assert [entry.number for entry in reader.entries] == [1, 2]
        assert not reader.on_message(b"9-9 99999999999999-0 9 9 0 []")


@asynccontextmanager
async def taken_over(context: ProcessContext, other: ProcessContext) -> AsyncIterator[tuple[OwnedRecord, OwnedRecord]]:
    """A record that one process has created, and another has taken from it: yields both claims."""
    async with LivingProcess(context, "gateway") as process:
        old = await create_record(context, process)
        await context.redis.delete(context.keys.alive(process))
        sweeper = await sweeper_of(other)
        await sweeper.sweep_once()
        adopted = await other.records.adopt("gateway", sweeper.process)
        assert adopted
        yield old, adopted[0]


@pytest.mark.parametrize("how", ["fenced", "without a task", "adopted again"])
async def test_followers_at_a_former_owner_hear_the_present_one_at_once(
    valkey: Valkey, other: ProcessContext, how: str
) -> None:
    """A follower there was handed what its own process wrote; it is subscribed now, and reads what it has missed."""
    async with another_context(valkey, reread_seconds=600) as context, taken_over(context, other) as (old, new):
        with following(context) as messages:
            await until(lambda: messages == ["first"])
            news = context.keys.news(TOPIC)
            assert await context.redis.pubsub_numsub(news) == [(news.encode(), 0)]
            await new.write(message_event("second"))
            if how == "fenced":
                with pytest.raises(Fenced):
                    await old.write(message_event("too late"))
            elif how == "without a task":
                context.records.untrack(TOPIC)
            else:
                await new.write(release=True)
                async with LivingProcess(context, "gateway") as process:
                    assert await context.records.adopt("gateway", process, topic=TOPIC)
            await until(lambda: messages == ["first", "second"])


async def test_a_reader_that_nobody_needs_goes_with_the_end_of_its_record(context: ProcessContext) -> None:
    record = await create_record(context)
    assert TOPIC in context.bus.readers
    await record.write(Event(phase=Phase.FAILED, terminal=True), final=True)
    assert TOPIC not in context.bus.readers


@pytest.mark.slow
async def test_a_record_that_is_missed_once_comes_back_with_its_owner(
    context: ProcessContext, other: ProcessContext
) -> None:
    record = await create_record(context)
    waiting = asyncio.create_task(other.bus.wait_for_end(TOPIC))
    await until(lambda: TOPIC in other.bus.readers and other.bus.readers[TOPIC].last is not None)
    reader = other.bus.readers[TOPIC]
    await context.redis.flushall()
    await until(lambda: reader.missing_checks == 1 or waiting.done())
    await list_process(context, record.process)
    assert await context.records.restore(TOPIC)
    await until(lambda: reader.missing_checks == 0 or waiting.done())
    assert not waiting.done()
    await record.write(Event(phase=Phase.FAILED, terminal=True), final=True)
    assert await waiting


@pytest.mark.slow
async def test_a_record_that_its_owner_does_not_rewrite_is_lost(context: ProcessContext, other: ProcessContext) -> None:
    await create_record(context)
    waiting = asyncio.create_task(other.bus.wait_for_end(TOPIC))
    await until(lambda: TOPIC in other.bus.readers and other.bus.readers[TOPIC].last is not None)
    await context.redis.flushall()
    async with asyncio.timeout(60):
        assert not await waiting


@pytest.mark.slow
@pytest.mark.parametrize("is_own", [False, True], ids=["by another process", "by the follower's process"])
async def test_a_record_that_was_lost_and_is_created_anew_is_followed_to_its_end(
    context: ProcessContext, other: ProcessContext, is_own: bool
) -> None:
    """While a follower of the lost one is still there, as a slow client is."""
    await create_record(context)
    async with other.bus.follow(TOPIC, lambda: None) as lost_reader:
        await context.redis.flushall()
        await until(lambda: lost_reader.is_lost)
        context.records.untrack(TOPIC)

        record = await create_record(other if is_own else context)
        waiting = asyncio.create_task(other.bus.wait_for_end(TOPIC))
        await until(lambda: waiting.done() or other.bus.readers[TOPIC] is not lost_reader)
        assert not waiting.done()
        await record.write(message_event("second"))
        await until(lambda: waiting.done() or len(other.bus.readers[TOPIC].entries) == 2)
        await record.write(Event(phase=Phase.FAILED, terminal=True), final=True)
        assert await waiting
    assert TOPIC not in other.bus.readers

    async def is_unsubscribed() -> bool:
        [(_, count)] = await context.redis.pubsub_numsub(context.keys.news(TOPIC))
        return bool(count == 0)

    await until(is_unsubscribed)


async def test_many_followers_share_one_reader_and_one_subscription(
    context: ProcessContext, other: ProcessContext
) -> None:
    record = await create_record(context)
    with following(other) as first, following(other) as second:
        await until(lambda: first == second == ["first"])
        assert other.bus.readers[TOPIC].followers == 2
        channels = await context.redis.pubsub_numsub(context.keys.news(TOPIC))
        assert channels == [(context.keys.news(TOPIC).encode(), 1)]
        await record.write(message_event("second"))
        await until(lambda: first == second == ["first", "second"])
    await until(lambda: TOPIC not in other.bus.readers)


async def test_a_stream_past_its_ceiling_keeps_head_and_tail_and_shows_how_much_is_missing(valkey: Valkey) -> None:
    async with another_context(valkey, stream_max_bytes=4000) as context:
        await context.redis.flushall()
        record = await create_record(context)
        for number in range(100):
            await record.write(message_event(f"{number:100d}"))
        assert await context.redis.xlen(context.keys.events(TOPIC)) < 40
        async with another_context(valkey) as other, other.bus.follow(TOPIC, lambda: None) as reader:
            await reader.read()
            lines = [entry.lines for entry in reader.entries]
            jumps = [after - before for before, after in pairwise(lines) if after != before + 1]
            assert lines[:5] == [0, 1, 2, 3, 4]
            assert lines[-1] == 100
            assert len(jumps) == 1
            assert len(lines) + jumps[0] - 1 == 101


@asynccontextmanager
async def two_contexts(valkey: Valkey) -> Any:
    async with open_context(service_settings(valkey)) as owner, open_context(service_settings(valkey)) as follower:
        yield owner, follower


async def test_a_follower_and_a_writer_outlive_a_killed_redis(tmp_path: Path) -> None:
    with running_valkey_in_thread(tmp_path) as valkey:
        async with two_contexts(valkey) as (owner, follower):
            record = await create_record(owner)
            with following(follower) as messages:
                await until(lambda: messages == ["first"])
                valkey.kill()
                writing = asyncio.create_task(record.write(message_event("second")))
                await asyncio.to_thread(valkey.start)
                await writing
                await until(lambda: messages == ["first", "second"])
                await record.write(message_event("third"))
                await until(lambda: messages == ["first", "second", "third"])


@contextmanager
def running_valkey_in_thread(folder: Path) -> Iterator[Valkey]:
    """A server of the test's own, started outside of its event loop."""
    import threading

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(_enter(folder)))
    thread.start()
    thread.join()
    context, valkey = results[0]
    try:
        yield valkey
    finally:
        context.__exit__(None, None, None)


def _enter(folder: Path) -> tuple[Any, Valkey]:
    context = running_valkey(folder)
    return context, context.__enter__()


async def test_no_read_goes_on_after_the_bus_has_ended(
    context: ProcessContext, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: set[asyncio.Task[Any] | None] = set()

    async def read_for_ever(_reader: Reader) -> None:
        reads.add(asyncio.current_task())
        await asyncio.Event().wait()

    await create_record(context)
    async with another_context(valkey) as follower:
        with following(follower) as messages:
            await until(lambda: messages == ["first"])
            monkeypatch.setattr(Reader, "read", read_for_ever)
            follower.bus.report_loss()
            await until(lambda: reads)
    assert all(task and task.done() for task in reads)
