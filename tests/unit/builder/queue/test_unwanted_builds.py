"""Builds that no launch waits for any more: stopped once, and never if a launch has just joined."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.builder.queue.attempts import Attempts, build_topic
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from services.common.service.loops import background_tasks
from tests.support.in_process_builder import Builder, open_builder, request_for
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.valkey import Valkey, member_of

WHY = BinderyError("cancelled", "Why.")


@pytest.fixture
async def builder(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path, build_cancel_grace_seconds=0.0, build_repo_cap=1) as builder:
        await builder.context.redis.flushall()
        yield builder


async def cancel_flag(builder: Builder, build_id: str | None) -> bool:
    return bool(await builder.context.redis.hexists(builder.context.keys.record(build_topic(build_id or "")), "cancel"))


async def test_a_queued_build_that_the_last_launch_leaves_ends_and_its_log_is_kept(builder: Builder) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    build_id = build.build_id or ""
    await builder.attempts.leave(build_id, "one", stop=True)
    await builder.sweep()
    build = await builder.builds.read(build_id)
    assert build.state is BuildState.CANCELLED
    assert build.error
    assert "Nobody waits" in build.error.detail
    await builder.sweep()
    entries = await builder.context.logs.read(build_id)
    assert entries
    assert entries[-1].is_terminal
    assert await builder.context.redis.smembers(builder.context.keys("{queue}:unstored")) == set()


async def test_a_launch_that_joins_in_time_keeps_the_build(builder: Builder) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    await builder.attempts.leave(build.build_id or "", "one", stop=True)
    await builder.attempts.join(build.build_id or "", request_for("repo", "a", "two"))
    await builder.sweep()
    assert (await builder.builds.read(build.build_id or "")).is_live
    assert not await cancel_flag(builder, build.build_id)


@pytest.mark.parametrize("joined_before", ["zrangebyscore", "script"])
async def test_a_launch_that_joins_and_leaves_while_a_round_runs_gives_the_build_another_grace(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, joined_before: str
) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    build_id = build.build_id or ""
    await builder.attempts.leave(build_id, "one", stop=True)
    abandoned_key = builder.context.keys("{queue}:abandoned")
    redis = builder.context.redis
    zrangebyscore = redis.zrangebyscore
    run = builder.attempts.scripts.run

    async def another_comes_and_goes() -> None:
        monkeypatch.undo()
        long_grace = builder.settings.model_copy(update={"build_cancel_grace_seconds": 3600.0})
        another = Attempts(builder.context, long_grace, builder.executor)
        await another.join(build_id, request_for("repo", "a", "two"))
        await another.leave(build_id, "two", stop=True)

    async def read_before(*args: Any) -> Any:
        due = await zrangebyscore(*args)
        await another_comes_and_goes()
        return due

    async def run_before(name: str, *args: Any) -> Any:
        if name == "cancel":
            await another_comes_and_goes()
        return await run(name, *args)

    if joined_before == "script":
        monkeypatch.setattr(builder.attempts.scripts, "run", run_before)
    else:
        monkeypatch.setattr(redis, "zrangebyscore", read_before)
    await builder.sweep()
    assert (await builder.builds.read(build_id)).is_live
    assert not await cancel_flag(builder, build_id)
    assert float(await redis.zscore(abandoned_key, build_id)) > (time.time() + 3000) * 1000


async def test_a_launch_that_joins_and_leaves_right_after_a_refusal_is_not_forgotten(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    build_id = build.build_id or ""
    await builder.attempts.leave(build_id, "one", stop=True)
    await builder.context.redis.sadd(builder.context.keys.waiters(build_id), "two")
    run = builder.attempts.scripts.run

    async def run_then_leave(name: str, *args: Any) -> Any:
        answer = await run(name, *args)
        if name == "cancel":
            monkeypatch.undo()
            assert answer == 0
            await builder.attempts.leave(build_id, "two", stop=True)
        return answer

    monkeypatch.setattr(builder.attempts.scripts, "run", run_then_leave)
    await builder.sweep()
    assert (await builder.builds.read(build_id)).is_live
    await builder.sweep()
    assert (await builder.builds.read(build_id)).state is BuildState.CANCELLED
    assert not await builder.context.redis.exists(builder.context.keys("{queue}:abandoned"))


async def test_asking_to_stop_and_looking_for_who_waits_are_one_step(builder: Builder) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    assert not await builder.attempts.request_cancel(build.build_id or "", WHY)
    assert not await cancel_flag(builder, build.build_id)
    await builder.attempts.leave(build.build_id or "", "one", stop=False)
    assert await builder.attempts.request_cancel(build.build_id or "", WHY)
    assert await cancel_flag(builder, build.build_id)


async def test_an_orphan_that_was_running_is_not_ended_as_if_it_were_queued(builder: Builder) -> None:
    build = await builder.request_build("repo", launch_ref="one")
    build_id = build.build_id or ""
    await builder.offer_slots("builder-host-1-a", 1)
    assert await builder.admit() == [build_id]
    record = builder.context.keys.record(build_topic(build_id))
    await builder.context.redis.hset(record, "state", "running")  # its worker claimed it, and died
    await builder.attempts.leave(build_id, "one", stop=True)
    await builder.sweep()
    assert (await builder.builds.read(build_id)).state is BuildState.RUNNING
    assert await cancel_flag(builder, build_id)  # whoever adopts it stops it
    assert build_id in await builder.running()


async def test_a_build_that_is_gone_gets_no_record_by_being_cancelled(builder: Builder) -> None:
    assert not await builder.attempts.request_cancel("0" * 24 + "-1", WHY)
    assert not await builder.context.redis.exists(builder.context.keys.record(build_topic("0" * 24 + "-1")))


async def test_a_step_of_a_sweep_that_fails_keeps_no_other_from_its_work_and_is_an_error_of_the_sweep(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("a bug")

    build = await builder.request_build("repo", launch_ref="one")
    await builder.attempts.leave(build.build_id or "", "one", stop=True)
    monkeypatch.setattr(builder.admission, "admit", broken)
    with pytest.raises(ValueError, match="a bug"):
        await builder.admission.sweep()
    assert (await builder.builds.read(build.build_id or "")).state is BuildState.CANCELLED


async def test_a_step_that_fails_does_not_keep_the_others_from_their_work(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder.context.logs, "put", full_disk)
    build = await builder.request_build("repo", launch_ref="one")
    await builder.attempts.leave(build.build_id or "", "one", stop=True)
    await builder.admission.sweep()
    await builder.context.redis.zadd(
        builder.context.keys("{queue}:jobs"), {f"{builder.context.keys.prefix}:{build.build_id}.7": 1}
    )
    member = member_of(builder.context, "builder")
    member.is_sweeper = True
    failures = sample("bindery_loop_failures_total", loop="store_logs")
    async with background_tasks(builder.cleanup.run(member)):
        await until(lambda: sample("bindery_loop_failures_total", loop="store_logs") > failures)

        async def has_no_job() -> bool:
            return bool(await builder.context.redis.zcard(builder.context.keys("{queue}:jobs")) == 0)

        await until(has_no_job)


async def test_a_log_that_can_not_be_stored_keeps_no_other_from_being_stored(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = [await builder.request_build(name, launch_ref="one") for name in ("first", "second", "third")]
    build_ids = [build.build_id or "" for build in builds]
    for build_id in build_ids:
        await builder.attempts.leave(build_id, "one", stop=True)
    await builder.admission.sweep()
    put = builder.context.logs.put

    async def refuse_one(build_id: str, *args: Any, **options: Any) -> None:
        if build_id == build_ids[1]:
            raise ValueError("unreadable")
        await put(build_id, *args, **options)

    monkeypatch.setattr(builder.context.logs, "put", refuse_one)
    with pytest.raises(ValueError, match="unreadable"):
        await builder.cleanup.store_logs()
    unstored = await builder.context.redis.smembers(builder.context.keys("{queue}:unstored"))
    assert unstored == {build_ids[1].encode()}
