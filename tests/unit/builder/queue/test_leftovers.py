"""Executions that are left of builds that have ended: their stops keep nothing else waiting, and no round is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from services.builder import context as builder_context
from services.builder.app import create_app
from services.builder.context import BuilderContext
from services.builder.executors.base import Attempt, Execution
from services.builder.queue.attempts import build_topic
from services.builder.queue.leftovers import Leftovers
from services.builder.settings import BuilderSettings
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from services.common.service.loops import background_tasks
from tests.support.in_process_builder import Builder, image_of, open_builder, request_for
from tests.support.polling import until
from tests.support.scripted_executor import ScriptedExecutor
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey, member_of, trust_leases

WHY = BinderyError("cancelled", "Why.")


class SlowExecutor(ScriptedExecutor):
    """An executor with living executions, of which it can't stop those in `stuck`."""

    def __init__(self, *build_ids: str, stuck: Sequence[str] = ()) -> None:
        super().__init__()
        self.executions = {build_id: Execution(build_id, 1, is_alive=True) for build_id in build_ids}
        self.stuck = stuck
        self.lists = 0

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        self.lists += 1
        return list(self.executions.values())

    async def stop(self, attempt: Attempt) -> None:
        self.stops += 1
        if attempt.build_id in self.stuck:
            await asyncio.Event().wait()

    async def remove(self, build_id: str) -> None:
        self.executions.pop(build_id)


async def ended_builds(builder: Builder, count: int) -> list[str]:
    """Return builds that have ended, and whose logs are stored."""
    build_ids = []
    for number in range(count):
        build = await builder.request_build(f"ended-{number}")
        assert await builder.attempts.end_queued(build, BuildState.CANCELLED, WHY)
        build_ids.append(build.build_id or "")
    await builder.cleanup.store_logs()
    return build_ids


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path, build_stop_seconds=0.3, relist_seconds=0.3) as builder:
        yield builder


def leftovers_of(builder: Builder, executor: SlowExecutor) -> Leftovers:
    return Leftovers(context=builder.context, settings=builder.settings, attempts=builder.attempts, executor=executor)


@pytest.mark.slow
async def test_executions_that_can_not_be_stopped_delay_neither_admission_nor_the_search_for_the_dead(
    valkey: Valkey, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_builder(valkey, tmp_path) as other:
        build_ids = await ended_builds(other, 3)
        executor = SlowExecutor(*build_ids, stuck=build_ids)
        monkeypatch.setattr(builder_context, "make_executor", lambda _settings: (executor, executor))
        values = {"redis_url": valkey.url, "data_dir": tmp_path, "service_token": "a token of the tests'"}
        app = create_app(settings_for(BuilderSettings, values | QUICK))
        async with app.router.lifespan_context(app):
            context: BuilderContext = app.state.context
            trust_leases(context.member)
            await until(lambda: executor.stops == 3, "the stops have begun")

            # A worker that dies, and a build that is queued without a message.
            keys = other.context.keys
            dead = "builder-host-1-dead"
            await redis.sadd(keys.processes("builder"), dead)
            build = await other.request_build("repo")
            await other.offer_slots("worker", 1)

            async def is_found() -> bool:
                return not await redis.sismember(keys.processes("builder"), dead)

            async def is_admitted() -> bool:
                return build.build_id in await other.running()

            await until(is_found, "the dead worker is found")
            await until(is_admitted, "the build has a slot")
            assert context.member.is_sweeper
            assert set(executor.executions) == set(build_ids)


async def test_one_that_can_not_be_stopped_keeps_no_other_from_being_stopped(builder: Builder) -> None:
    build_ids = await ended_builds(builder, 20)
    executor = SlowExecutor(*build_ids, stuck=build_ids[:2])
    leftovers = leftovers_of(builder, executor)
    await leftovers.stop()
    assert set(executor.executions) == set(build_ids[:2])


async def test_one_whose_stop_fails_keeps_no_other_from_being_stopped_and_is_an_error_of_the_round(
    builder: Builder,
) -> None:
    class RefusingExecutor(SlowExecutor):
        async def stop(self, attempt: Attempt) -> None:
            if attempt.build_id in self.stuck:
                raise ValueError("a bug")

    build_ids = await ended_builds(builder, 20)
    executor = RefusingExecutor(*build_ids, stuck=build_ids[:2])
    with pytest.raises(ValueError, match="a bug"):
        await leftovers_of(builder, executor).stop()
    assert set(executor.executions) == set(build_ids[:2])


async def test_a_round_that_ends_as_redis_is_away_leaves_no_stop_running(builder: Builder) -> None:
    class CutOffExecutor(SlowExecutor):
        async def stop(self, attempt: Attempt) -> None:
            if attempt.build_id not in self.stuck:
                await until(lambda: self.stops == 1, "the other stop has begun")
                raise RedisConnectionError("away")
            self.stops += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.stops -= 1

    build_ids = await ended_builds(builder, 2)
    executor = CutOffExecutor(*build_ids, stuck=build_ids[:1])
    with pytest.raises(RedisConnectionError):
        await leftovers_of(builder, executor).stop()
    assert executor.stops == 0


async def test_a_round_is_due_once_whichever_process_sweeps(builder: Builder) -> None:
    executor = SlowExecutor()
    first, second = leftovers_of(builder, executor), leftovers_of(builder, executor)
    await asyncio.gather(*(leftovers.stop_if_due() for leftovers in (first, second)))
    assert executor.lists == 1

    async def is_due_again() -> bool:
        await second.stop_if_due()
        return executor.lists == 2

    await until(is_due_again)


async def test_a_round_that_fails_is_tried_again_until_it_does_not(builder: Builder) -> None:
    class RefusingExecutor(SlowExecutor):
        async def list(self, image_key: str = "") -> Sequence[Execution]:
            self.lists += 1
            if self.lists <= 3:
                raise ValueError("a bug")
            return []

    executor = RefusingExecutor()
    builder.cleanup._leftovers = leftovers_of(builder, executor)
    member = member_of(builder.context, "builder")
    member.is_sweeper = True
    with capture_logs() as lines:
        async with background_tasks(builder.cleanup.run(member)):
            await until(lambda: any(line["event"] == "loop_recovered" for line in lines))
    assert executor.lists >= 4
    assert [(line["event"], line["failures"]) for line in lines if line.get("loop") == "leftovers"] == [
        ("loop_failed", 1), ("loop_failed", 2), ("loop_recovered", 3),
    ]  # fmt: skip


async def test_an_execution_whose_build_runs_or_whose_log_is_not_stored_is_left_alone(builder: Builder) -> None:
    running = await builder.attempts.start(image_of("runs", "a"), request_for("runs", "a"))
    ended = await builder.request_build("ended")
    assert await builder.attempts.end_queued(ended, BuildState.CANCELLED, WHY)
    build_ids = [running.build_id or "", ended.build_id or "", "0" * 24 + "-1"]
    executor = SlowExecutor(*build_ids)
    await leftovers_of(builder, executor).stop()
    assert (executor.stops, set(executor.executions)) == (0, set(build_ids))
    assert await builder.context.redis.exists(builder.context.keys.record(build_topic(build_ids[0])))
