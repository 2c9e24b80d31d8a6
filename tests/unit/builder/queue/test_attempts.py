"""Attempts in a real Redis: one at a time, however many ask, and no number twice."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.executors.base import Attempt, Execution
from services.builder.queue.attempts import build_topic
from services.common.models import Build, BuildState, image_key
from services.common.models.errors import BinderyError
from services.common.records.stored_record import StoredRecord
from services.common.redis.scripts import ScriptArg
from services.common.streams.entries import Entry
from tests.support.in_process_builder import Builder, image_of, open_builder, request_for
from tests.support.sample_records import list_process
from tests.support.valkey import Valkey


async def test_however_many_ask_there_is_one_attempt_and_all_wait_for_it(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as first, open_builder(valkey, tmp_path) as second:
        requests = [
            (first, second)[number % 2].request_build("repo", launch_ref=f"launch-{number}") for number in range(30)
        ]
        builds = await asyncio.gather(*requests)
        assert {build.build_id for build in builds} == {f"{image_key(image_of('repo', 'a'))}-1"}
        assert await redis.zcard(first.context.keys("{queue}:waiting")) == 1
        assert await redis.scard(first.context.keys.waiters(builds[0].build_id or "")) == 30
        assert await redis.xlen(f"{first.context.keys.prefix}:{{b:{builds[0].build_id}}}:events") == 1


@pytest.mark.usefixtures("redis")
async def test_the_next_attempt_begins_when_the_current_one_has_ended_and_once(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        first = await builder.request_build("repo")
        assert (await builder.request_build("repo")).build_id == first.build_id
        await builder.attempts.end_queued(first, BuildState.CANCELLED, BinderyError("cancelled"))
        again = await asyncio.gather(*(builder.request_build("repo") for _ in range(20)))
        assert {build.build_id for build in again} == {f"{image_key(first.image)}-2"}


@pytest.mark.usefixtures("redis")
async def test_a_late_request_for_an_attempt_that_was_followed_by_another_begins_none(
    valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        for _ in range(2):
            build = await builder.request_build("repo")
            await builder.attempts.end_queued(build, BuildState.FAILED, BinderyError("build_failed"))
        keys = builder.context.keys
        image = image_of("repo", "a")
        names = [keys.attempt(image_key(image)), *(keys("{queue}:" + name) for name in ("waiting", "repos", "version"))]
        args: list[ScriptArg] = [
            1,
            1,
            keys.prefix,
            image_key(image),
            "{}",
            "[]",
            "url",
            "",
            10,
            1000,
            0,
            "{}",
            keys.wake("builder"),
        ]
        assert await builder.attempts.scripts.run("start", names, args) == [b"moved", b"2"]


async def test_after_redis_was_emptied_the_next_number_is_above_every_log(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    async with open_builder(valkey, tmp_path, log_dir=folder, log_small_max_bytes=0) as builder:
        key = image_key(image_of("repo", "a"))
        await builder.context.logs.put(
            f"{key}-7",
            [Entry(id="1-0", number=1, lines=0, bytes_before=0, payload=b'[{"phase":"building","message":"x"}]')],
            is_public=True,
        )
        await redis.flushall()
        assert (await builder.request_build("repo")).build_id == f"{key}-8"


@pytest.mark.slow
@pytest.mark.usefixtures("redis")
async def test_after_redis_was_emptied_the_next_number_is_above_every_execution(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, lease_seconds=0.6) as builder:
        image = image_of("repo", "a")
        attempt = Attempt(
            build_id=f"{image_key(image)}-4", image=image, repo_url="https://127.0.0.1/x", ref="f" * 40, epoch=1
        )
        await builder.executor.ensure(attempt)
        try:
            assert (await builder.request_build("repo")).build_id == f"{image_key(image)}-5"
            assert await builder.attempts.is_superseded(attempt.build_id)
        finally:
            await builder.executor.stop(attempt)


async def test_a_running_attempt_is_joined_once_its_worker_has_restored_it_in_an_emptied_redis(
    redis: Redis, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_builder(valkey, tmp_path, lease_seconds=10) as builder:
        build = await builder.request_build("repo")
        await builder.offer_slots("w1", 1)
        await builder.admit()
        build_id = build.build_id or ""
        adopted = await builder.context.records.adopt("builder", "w1", topic=build_topic(build_id), epoch=1)
        assert adopted
        _say_that_one_runs(monkeypatch, builder, build_id)
        has_missed = _event_of_a_miss(monkeypatch, builder)
        await redis.flushall()
        late = asyncio.create_task(builder.request_build("repo", launch_ref="late"))
        await asyncio.wait({late, asyncio.create_task(has_missed.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await builder.offer_slots("w1", 1)
        await list_process(builder.context, "w1")
        await adopted[0].write(body=build.updated(state=BuildState.RUNNING))
        assert (await late).build_id == build_id
        assert await redis.smembers(builder.context.keys.waiters(build_id)) == {b"late"}
        assert not await redis.zcard(builder.context.keys("{queue}:waiting"))


@pytest.mark.slow
@pytest.mark.usefixtures("redis")
async def test_an_attempt_that_runs_without_a_worker_is_followed_by_another_once_a_lease_has_passed(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_builder(valkey, tmp_path, lease_seconds=0.6) as builder:
        key = image_key(image_of("repo", "a"))
        _say_that_one_runs(monkeypatch, builder, f"{key}-3")
        has_missed = _event_of_a_miss(monkeypatch, builder)
        assert (await builder.request_build("repo")).build_id == f"{key}-4"
        assert has_missed.is_set()


def _say_that_one_runs(monkeypatch: pytest.MonkeyPatch, builder: Builder, build_id: str) -> None:
    async def executions(_image_key: str = "") -> list[Execution]:
        return [Execution(build_id, 1, is_alive=True)]

    monkeypatch.setattr(builder.executor, "list", executions)


def _event_of_a_miss(monkeypatch: pytest.MonkeyPatch, builder: Builder) -> asyncio.Event:
    """Set when an attempt's record has been looked for and not found."""
    has_missed = asyncio.Event()
    read_stored = builder.attempts.read

    async def reading(build_id: str) -> tuple[Build, StoredRecord] | None:
        stored = await read_stored(build_id)
        if stored is None:
            has_missed.set()
        return stored

    monkeypatch.setattr(builder.attempts, "read", reading)
    return has_missed


@pytest.mark.usefixtures("redis")
async def test_a_full_queue_refuses_one_more_but_not_one_who_joins(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, build_queue_max=2) as builder:
        first = await builder.request_build("one")
        await builder.request_build("two")
        with pytest.raises(BinderyError) as raised:
            await builder.request_build("three")
        assert raised.value.code == "build_queue_full"
        assert (await builder.request_build("one")).build_id == first.build_id


async def test_a_queued_build_ends_once_and_leaves_the_queue(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo", launch_ref="launch")
        error = BinderyError("cancelled", "Not wanted.")
        results = await asyncio.gather(
            *(builder.attempts.end_queued(build, BuildState.CANCELLED, error) for _ in range(5))
        )
        assert sorted(results) == [False, False, False, False, True]
        assert not await redis.zcard(builder.context.keys("{queue}:waiting"))
        stored = await builder.attempts.read(build.build_id or "")
        assert stored
        assert stored.build.state is BuildState.CANCELLED


async def test_a_build_that_nobody_waits_for_is_noted_until_somebody_does(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo", launch_ref="one")
        build_id = build.build_id or ""
        abandoned = builder.context.keys("{queue}:abandoned")
        await builder.attempts.join(build_id, request_for("repo", "a", "two"))
        await builder.attempts.leave(build_id, "one", stop=True)
        assert not await redis.zcard(abandoned)
        await builder.attempts.leave(build_id, "two", stop=True)
        due = await redis.zscore(abandoned, build_id)
        assert due
        assert due / 1000 > time.time() + builder.settings.build_cancel_grace_seconds - 5
        await builder.attempts.start(image_of("repo", "a"), request_for("repo", "a", "three"))
        await builder.attempts.join(build_id, request_for("repo", "a", "three"))
        assert not await redis.zcard(abandoned)


async def test_a_failure_of_the_authors_is_answered_until_it_is_forgotten(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_failure_memory_seconds=600) as builder:
        builds = builder.builds
        request = request_for("repo", "a")
        first = await builds.ensure(request)
        await builder.attempts.end_queued(first, BuildState.FAILED, BinderyError("build_failed", "No such package."))
        answer = await builds.ensure(request)
        assert answer.build_id == first.build_id
        assert answer.error
        assert answer.error.detail == "No such package."

        record = builder.context.keys.record(build_topic(first.build_id or ""))
        body = json.loads(await redis.hget(record, "body"))
        await redis.hset(record, "body", json.dumps(body | {"finished_at": body["finished_at"] - 600}))
        again = await builds.ensure(request)
        assert again.build_id == f"{image_key(first.image)}-2"
        assert again.is_live


@pytest.mark.usefixtures("redis")
async def test_a_failure_that_is_not_the_authors_is_not_remembered(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, build_failure_memory_seconds=600) as builder:
        builds = builder.builds
        request = request_for("repo", "a")
        first = await builds.ensure(request)
        await builder.attempts.end_queued(first, BuildState.FAILED, BinderyError("registry_unavailable"))
        assert (await builds.ensure(request)).build_id == f"{image_key(first.image)}-2"
