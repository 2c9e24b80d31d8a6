"""A build whose values in Redis are damaged keeps no other from its slot, its worker or its end."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from services.builder.queue.attempts import build_topic
from services.builder.queue.jobs import job_id
from services.common.models import Build, BuildState
from services.common.models.errors import BinderyError
from tests.support.in_process_builder import Builder, open_builder
from tests.support.valkey import Valkey


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path, build_queue_max_seconds=60) as builder:
        yield builder


def record_key(builder: Builder, build: Build) -> str:
    return builder.context.keys.record(build_topic(build.build_id or ""))


async def break_record(builder: Builder, build: Build) -> None:
    """Leave a record of another type."""
    await break_key(builder, record_key(builder, build))


async def break_key(builder: Builder, key: str) -> None:
    await builder.context.redis.delete(key)
    await builder.context.redis.set(key, "damaged")


async def jobs(builder: Builder) -> set[bytes]:
    return set(await builder.context.redis.zrange(builder.context.keys("{queue}:jobs"), 0, -1))


@pytest.mark.parametrize("epoch", ["x", "", "nan", "9" * 30, "0", b"\xff"])
async def test_a_running_build_without_a_usable_epoch_is_offered_as_all_others(
    builder: Builder, epoch: str | bytes
) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(4)]
    await builder.offer_slots("worker", 4)
    await builder.admit()
    await builder.context.redis.delete(builder.context.keys("{queue}:jobs"))
    async for key in builder.context.redis.scan_iter("arq:*"):
        await builder.context.redis.delete(key)
    await builder.context.redis.hset(record_key(builder, builds[1]), "epoch", epoch)

    await builder.admission.sweep()
    prefix = builder.context.keys.prefix
    epochs = [int(await builder.context.redis.hget(record_key(builder, build), "epoch")) for build in builds]
    assert await jobs(builder) == {
        job_id(prefix, build.build_id or "", epoch).encode() for build, epoch in zip(builds, epochs, strict=True)
    }
    build_id = builds[1].build_id or ""
    assert await builder.context.records.adopt("builder", "worker", topic=build_topic(build_id), epoch=epochs[1])


async def test_a_running_build_whose_record_is_no_hash_frees_its_slot(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
    await builder.offer_slots("worker", 2)
    await builder.admit()
    await break_record(builder, builds[0])
    await builder.context.redis.hset(builder.context.keys("{queue}:running"), b"\xff", "repo")

    await builder.admission.sweep()
    await builder.admission.sweep()
    assert await builder.running() == {builds[1].build_id, builds[2].build_id}
    await builder.cleanup.store_logs()
    assert not await builder.context.redis.exists(builder.context.keys("{queue}:unstored"))


async def test_a_waiting_build_whose_record_is_no_hash_keeps_none_waiting(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
    await break_record(builder, builds[0])
    await builder.context.redis.zadd(builder.context.keys("{queue}:waiting"), {b"\xff": 0})
    await builder.context.redis.sadd(builder.context.keys.orphans("builder"), f"b:{builds[0].build_id}")
    assert (await builder.builds.queue()).depth == 4

    await builder.offer_slots("worker", 3)
    assert set(await builder.admit()) == {builds[1].build_id, builds[2].build_id}
    assert (await builder.builds.queue()).depth == 0


@pytest.mark.parametrize("epoch", ["x", "nan"])
async def test_a_waiting_build_whose_epoch_is_no_number_gets_its_slot(builder: Builder, epoch: str) -> None:
    build = await builder.request_build("repo")
    await builder.context.redis.hset(record_key(builder, build), "epoch", epoch)
    await builder.offer_slots("worker", 1)
    assert await builder.admit() == [build.build_id]


async def test_damaged_slots_and_counters_of_the_queue_stop_nothing(builder: Builder) -> None:
    keys = builder.context.keys
    redis = builder.context.redis
    first = await builder.request_build("first")
    await redis.hset(keys("{queue}:repos"), mapping={":now": "x", ":arrivals": "x", ":admissions": "x"})
    second = await builder.request_build("second")
    await builder.offer_slots("worker", 2)
    await builder.offer_slots("damaged", 1)
    await redis.hset(keys("slots"), "damaged", "many")
    assert set(await builder.admit()) == {first.build_id, second.build_id}

    await redis.hset(record_key(builder, first), "admitted", "x")
    await redis.hset(keys("{queue}:limits"), mapping={"capacity": "x", "repo_cap": "x"})
    third = await builder.request_build("third")
    positions = await builder.context.queue_positions.of(third.build_id or "")
    assert positions[third.build_id or ""].queue.position == 1
    assert {worker.slots for worker in (await builder.builds.queue()).workers} == {0, 2}


async def test_a_build_of_which_it_is_unknown_how_long_it_waits_keeps_none_from_its_end(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
    for build in builds:
        await builder.context.redis.hset(record_key(builder, build), "queued_ms", 1)
    await builder.context.redis.hset(record_key(builder, builds[0]), "queued_ms", "x")
    await builder.context.redis.hset(record_key(builder, builds[1]), mapping={"seq": "x", "epoch": "x"})

    await builder.cleanup.expire()
    states = [(await builder.builds.read(build.build_id or "")).state for build in builds]
    assert states == [BuildState.QUEUED, BuildState.FAILED, BuildState.FAILED]


async def test_a_build_that_waits_ends_by_the_time_in_its_body_if_the_field_for_that_is_damaged(
    builder: Builder,
) -> None:
    build = await builder.request_build("repo")
    body = build.updated(created_at=build.created_at - 61.0).model_dump_json(exclude_none=True)
    await builder.context.redis.hset(record_key(builder, build), mapping={"queued_ms": "x", "body": body})
    other = await builder.request_build("other")
    await builder.context.redis.hset(record_key(builder, other), "queued_ms", 1)

    await builder.cleanup.expire()
    ended = await builder.builds.read(build.build_id or "")
    assert ended.error
    assert re.fullmatch(r"No builder became free within 6\d s\.", ended.error.detail)


async def test_what_is_no_build_leaves_the_lists_of_the_queue_at_the_first_round(builder: Builder) -> None:
    build = await builder.request_build("repo")
    build_id = build.build_id or ""
    await builder.context.redis.hset(record_key(builder, build), "queued_ms", 1)
    lost = await builder.request_build("lost")
    await break_key(builder, record_key(builder, lost))
    keys = builder.context.keys
    redis = builder.context.redis
    for name in (b"\xff", "a\0b", "../b"):
        await redis.zadd(keys("{queue}:waiting"), {name: 0})
        await redis.zadd(keys("{queue}:abandoned"), {name: 0})
        await redis.sadd(keys("{queue}:unstored"), name)

    await builder.leftovers.stop()
    await builder.sweep()
    assert (await builder.builds.read(build_id)).state is BuildState.FAILED
    for name in ("waiting", "abandoned", "unstored"):
        assert not await redis.exists(keys("{queue}:" + name)), name


async def test_an_abandoned_build_that_cannot_be_cancelled_keeps_no_other_from_that(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}", launch_ref=f"launch-{number}") for number in range(2)]
    for number, build in enumerate(builds):
        await builder.attempts.leave(build.build_id or "", f"launch-{number}", stop=True)
    abandoned = builder.context.keys("{queue}:abandoned")
    await builder.context.redis.zadd(abandoned, {builds[0].build_id or "": 1, builds[1].build_id or "": 2})
    await break_record(builder, builds[0])

    await builder.admission.sweep()
    assert (await builder.builds.read(builds[1].build_id or "")).state is BuildState.CANCELLED
    assert not await builder.context.redis.exists(abandoned)


@pytest.mark.parametrize("rest", ["events", "waiters"])
async def test_an_abandoned_build_with_another_damaged_key_is_cancelled_and_its_end_is_stored(
    builder: Builder, rest: str
) -> None:
    build = await builder.request_build("repo", launch_ref="launch")
    build_id = build.build_id or ""
    await builder.attempts.leave(build_id, "launch", stop=True)
    await builder.context.redis.zadd(builder.context.keys("{queue}:abandoned"), {build_id: 1})
    await break_key(builder, builder.context.keys(f"{{b:{build_id}}}:{rest}"))

    await builder.sweep()
    assert (await builder.builds.read(build_id)).state is BuildState.CANCELLED
    entries = await builder.context.logs.read(build_id)
    assert entries
    assert entries[-1].is_terminal


async def test_an_ended_build_whose_events_are_no_stream_is_stored_no_more(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(2)]
    for build in builds:
        assert await builder.attempts.end_queued(build, BuildState.CANCELLED, BinderyError("cancelled", "Why."))
    events = builder.context.keys.events(build_topic(builds[0].build_id or ""))
    await break_key(builder, events)

    await builder.cleanup.store_logs()
    assert not await builder.context.redis.exists(builder.context.keys("{queue}:unstored"))
    assert await builder.context.logs.read(builds[1].build_id or "")
    assert await builder.context.redis.pttl(events) > 0


@pytest.mark.parametrize("fields", [{"d": "[]"}, {"n": "x", "l": "0", "b": "0", "d": "[]"}])
async def test_an_entry_that_cannot_be_read_keeps_no_log_from_being_stored(
    builder: Builder, fields: dict[str, str]
) -> None:
    build = await builder.request_build("repo")
    build_id = build.build_id or ""
    await builder.context.redis.xadd(builder.context.keys.events(build_topic(build_id)), fields)
    assert await builder.attempts.end_queued(build, BuildState.CANCELLED, BinderyError("cancelled", "Why."))

    await builder.cleanup.store_logs()
    assert not await builder.context.redis.exists(builder.context.keys("{queue}:unstored"))
    entries = await builder.context.logs.read(build_id)
    assert entries
    assert [entry.number for entry in entries] == [1, 2]


async def test_damaged_values_beside_the_stored_logs_keep_none_from_being_stored(builder: Builder) -> None:
    keys = builder.context.keys
    await builder.context.redis.hset(keys("logs:sizes"), mapping={"damaged": "x", b"\xff": "9" * 400})
    await builder.context.redis.zadd(keys("logs"), {"damaged": 1, b"\xff": 1})
    build = await builder.request_build("repo")
    assert await builder.attempts.end_queued(build, BuildState.CANCELLED, BinderyError("cancelled", "Why."))

    await builder.cleanup.store_logs()
    assert not await builder.context.redis.exists(keys("{queue}:unstored"))
    assert await builder.context.logs.read(build.build_id or "")
    assert set(await builder.context.redis.zrange(keys("logs"), 0, -1)) == {(build.build_id or "").encode()}


async def test_the_jobs_of_a_build_whose_record_is_no_hash_are_dropped(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(2)]
    await builder.offer_slots("worker", 2)
    await builder.admit()
    await break_key(builder, record_key(builder, builds[0]))

    await builder.dispatcher.drop_stale()
    assert await jobs(builder) == {job_id(builder.context.keys.prefix, builds[1].build_id or "", 1).encode()}


async def test_a_step_of_the_sweep_that_fails_keeps_no_other_from_its_turn_and_is_named(builder: Builder) -> None:
    build = await builder.request_build("repo", launch_ref="launch")
    await builder.attempts.leave(build.build_id or "", "launch", stop=True)
    await builder.context.redis.zadd(builder.context.keys("{queue}:abandoned"), {build.build_id or "": 1})
    await break_key(builder, builder.context.keys("{queue}:waiting"))

    with capture_logs() as lines, pytest.raises(ResponseError, match="WRONGTYPE"):
        await builder.admission.sweep()
    failed = [(line["step"], line["item"]) for line in lines if line["event"] == "item_failed"]
    assert ("sweep_step", "admit") in failed
    assert await builder.context.redis.hget(record_key(builder, build), "cancel")


async def test_a_job_of_a_damaged_build_is_dropped_and_keeps_no_other_in_the_queue(builder: Builder) -> None:
    builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
    await builder.offer_slots("worker", 3)
    await builder.admit()
    await builder.context.redis.hset(record_key(builder, builds[0]), "epoch", "x")
    await builder.context.redis.hset(record_key(builder, builds[2]), "final", "1")
    await builder.dispatcher.drop_stale()
    assert await jobs(builder) == {job_id(builder.context.keys.prefix, builds[1].build_id or "", 1).encode()}


async def test_a_record_that_is_no_hash_is_told_to_be_unreadable(builder: Builder) -> None:
    build = await builder.request_build("repo")
    await break_record(builder, build)
    with pytest.raises(BinderyError) as raised:
        await builder.builds.read(build.build_id or "")
    assert raised.value.code == "record_unreadable"
