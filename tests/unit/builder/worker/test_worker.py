"""A builder worker on a real Redis: what it takes, what it tidies, and how it ends."""

import asyncio
import contextlib
import io
import json
import pickle
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from services.builder.context import BuilderContext
from services.builder.executors.base import Finished
from services.builder.queue import admission, jobs
from services.builder.queue.attempts import topic_of
from services.builder.queue.builds import Builds
from services.builder.settings import BuilderSettings
from services.builder.worker.worker import BuilderWorker, run
from services.common.context import stage_member
from services.common.records.leases import StageMember
from tests.support.in_process_builder import Builder, image_of, open_builder, request_for
from tests.support.logs import line_of
from tests.support.scripted_executor import Scripted, Step, said
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey


class Running:
    """One worker process, as far as Redis can tell; its executions do what `scripted` says."""

    def __init__(self, builder: Builder, member: StageMember, scripted: Scripted) -> None:
        self.builder, self.scripted, self.process = builder, scripted, member.process
        builds = Builds(builder.context, builder.settings, builder.attempts, scripted)
        parts = BuilderContext(builder.context, scripted, scripted, builder.attempts, builds, builder.admission)
        self.worker = BuilderWorker(parts, member, builder.settings)
        self._jobs: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look for jobs from now on."""
        self._jobs = asyncio.create_task(self.worker.run_arq())

    def is_looking(self) -> bool:
        return self._jobs is not None and not self._jobs.done()

    async def end(self) -> None:
        while self._jobs and not self._jobs.done():  # arq and redis-py swallow a cancel now and then
            self._jobs.cancel()
            await asyncio.wait({self._jobs}, timeout=0.2)

    async def has(self, count: int) -> bool:
        """Whether it supervises so many builds."""
        owned = await self.builder.context.redis.scard(self.builder.context.keys.owned(self.process))
        return bool(owned == count)


Started = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def started(valkey: Valkey, redis: Redis, tmp_path: Path) -> Started:
    """Workers, each with connections and a lease of its own; a long one, as nothing here is about leases."""

    @contextlib.asynccontextmanager
    async def started(*steps: Step, **settings: object) -> AsyncIterator[Running]:
        async with (
            open_builder(valkey, tmp_path, lease_seconds=60, **settings) as builder,
            stage_member(builder.context, "builder", sweeps=False) as member,
        ):
            running = Running(builder, member, Scripted(steps))
            await running.worker.offer_slots()
            try:
                yield running
            finally:
                await running.end()

    return started


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def admitted(builder: Builder, count: int) -> list[str]:
    """Builds of as many repositories, all with a slot."""
    for number in range(count):
        await builder.ask(f"repo-{number}", launch_ref="launch")
    build_ids = await builder.admitted()
    assert len(build_ids) == count
    return build_ids


async def field(builder: Builder, build_id: str, name: str) -> str:
    found = await builder.attempts.read(build_id)
    assert found
    return found[1].get(name)


# What it takes


async def test_a_worker_takes_as_many_fresh_builds_as_it_has_slots(started: Started) -> None:
    async with started(None, build_slots=2) as one, started(None, build_slots=2) as two:
        one.begin()
        await admitted(one.builder, 4)
        await until(lambda: one.has(2))
        two.begin()
        await until(lambda: two.has(2))
        assert await one.has(2)


async def test_an_emptied_redis_is_told_which_repository_a_running_build_is_counted_for(
    started: Started, redis: Redis
) -> None:
    async with started(None) as one:
        request = request_for("repo", "a")
        spelled = request.repo.updated(repo_url="https://www.Example.org:443/%72epo.git")
        build = await one.builder.attempts.start(image_of("repo", "a"), request.updated(repo=spelled))
        one.begin()
        await one.builder.admission.admit()
        await until(lambda: one.has(1))
        running = one.builder.context.keys("{queue}:running")
        await redis.delete(running)
        await one.worker.offer_slots()
        assert await redis.hgetall(running) == {str(build.build_id).encode(): b"https://example.org/repo"}


async def test_a_full_worker_takes_what_another_had_and_what_everybody_leaves(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LEFT_SECONDS", 3600.0)
    async with started(None, build_slots=1) as full:
        builder, redis = full.builder, full.builder.context.redis
        await builder.offer_slots("builder-that-does-not-look", 2)
        build_ids = await admitted(builder, 3)
        full.begin()
        await until(lambda: full.has(1))
        adopted, fresh = [one for one in build_ids if not await field(builder, one, "owner")]
        await redis.hincrby(
            builder.context.keys.record(topic_of(adopted)), "epoch", 1
        )  # as the sweep does for the dead
        await builder.admission.sweep()
        await until(lambda: full.has(2))
        assert await field(builder, fresh, "owner") == ""
        monkeypatch.setattr(admission, "LEFT_SECONDS", 0.0)
        await builder.admission.sweep()
        await until(lambda: full.has(3))
        assert await field(builder, fresh, "epoch") == "2"


async def test_a_job_that_was_begun_and_not_gone_on_with_is_offered_anew(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(None) as running:
        builder, redis = running.builder, running.builder.context.redis
        (build_id,) = await admitted(builder, 1)
        begun = jobs.job_id(builder.context.keys.prefix, build_id, 1)
        await redis.set(f"arq:in-progress:{begun}", "1")  # its worker was killed before it had claimed the build
        running.begin()
        monkeypatch.setattr(admission, "LEFT_SECONDS", 0.0)
        await builder.admission.sweep()
        await until(lambda: running.has(1))
        await builder.admission.sweep()
        assert not await redis.exists(f"arq:in-progress:{begun}")


async def test_a_slot_is_free_again_while_what_is_left_of_its_build_is_tidied(started: Started) -> None:
    async with started(said("one"), Finished(False, "build_failed", "It failed."), build_slots=1) as running:
        builder, scripted = running.builder, running.scripted
        scripted.may_remove.clear()
        await admitted(builder, 1)
        running.begin()
        await until(lambda: none_runs(builder))
        await builder.ask("another")
        assert len(await builder.admitted()) == 1
        await until(lambda: none_runs(builder))
        assert scripted.removed == []
        scripted.may_remove.set()


async def none_runs(builder: Builder) -> bool:
    return not await builder.running()


# What it refuses


@dataclass
class Mark:
    """Whoever unpickles this leaves a file behind."""

    path: Path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


JOB: dict[str, object] = {"t": None, "f": "supervise", "a": ["{}"], "k": {}, "et": 1}
NO_JOBS: dict[str, bytes] = {
    "no JSON": b"supervise",
    "a list": b"[]",
    "nothing but depth": b"[" * 100_000,
    "a function that is no name": json.dumps(JOB | {"f": {}}).encode(),
    "another function": json.dumps(JOB | {"f": "os.system"}).encode(),
    "no arguments": json.dumps(JOB | {"a": []}).encode(),
    "an argument that is no text": json.dumps(JOB | {"a": [{}]}).encode(),
    "a try": json.dumps(JOB | {"t": "1"}).encode(),
    "a time that no calendar has": json.dumps(JOB | {"et": 10**30}).encode(),
    "something more": json.dumps(JOB | {"x": 1}).encode(),
}


async def taken_after_refusing(running: Running, build_id: str, raw: bytes) -> None:
    """Put something in the place of a build's job: the worker refuses it, and takes the build all the same."""
    builder, before = running.builder, jobs.REFUSED._value.get()
    await builder.context.redis.set(f"arq:job:{jobs.job_id(builder.context.keys.prefix, build_id, 1)}", raw)
    running.begin()
    await until(lambda: more_than(refused_jobs, before))
    await until(lambda: swept(running, 1))
    assert running.is_looking()
    assert await field(builder, build_id, "epoch") == "1"


async def refused_jobs() -> int:
    return int(jobs.REFUSED._value.get())


async def swept(running: Running, count: int) -> bool:
    """One sweep; whether the worker supervises so many builds after it."""
    await running.builder.admission.sweep()
    return await running.has(count)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_a_pickled_job_is_never_unpickled_and_its_build_is_taken_all_the_same(
    protocol: int, started: Started, tmp_path: Path, logs: io.StringIO
) -> None:
    mark = tmp_path / "unpickled"
    async with started(None) as running:
        (build_id,) = await admitted(running.builder, 1)
        await taken_after_refusing(running, build_id, pickle.dumps(JOB | {"k": Mark(mark)}, protocol))
    assert not mark.exists()
    why = line_of(logs, "job_refused")["why"]
    assert why == ("it is a pickle" if protocol > 1 else "it is no job of this release")
    pickle.loads(pickle.dumps(Mark(mark), protocol))  # noqa: S301 -- our own, to see that it leaves one
    assert mark.exists()


@pytest.mark.parametrize("raw", NO_JOBS.values(), ids=NO_JOBS)
async def test_what_is_no_job_is_refused_and_ends_nothing(raw: bytes, started: Started) -> None:
    async with started(None) as running:
        (build_id,) = await admitted(running.builder, 1)
        await taken_after_refusing(running, build_id, raw)


async def test_no_build_is_lost_whose_job_the_release_before_has_pickled(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LEFT_SECONDS", 0.5)
    async with started(None, build_slots=4) as running:
        builder, prefix = running.builder, running.builder.context.keys.prefix
        build_ids = await admitted(builder, 3)
        adopted, begun, _ = build_ids
        await builder.context.redis.hincrby(builder.context.keys.record(topic_of(adopted)), "epoch", 1)
        await builder.context.redis.delete(*[f"arq:job:{jobs.job_id(prefix, one, 1)}" for one in build_ids])
        before = ArqRedis(
            builder.context.redis.connection_pool, default_queue_name=builder.context.keys("{queue}:jobs")
        )
        for build_id in build_ids:
            epoch = int(await field(builder, build_id, "epoch"))
            argument = json.dumps({"v": 1, "build_id": build_id, "epoch": epoch})
            assert await before.enqueue_job("supervise", argument, _job_id=jobs.job_id(prefix, build_id, epoch))
        await builder.context.redis.set(f"arq:in-progress:{jobs.job_id(prefix, begun, 1)}", "1")
        running.begin()
        await until(lambda: swept(running, 3))
        assert {await field(builder, one, "owner") for one in build_ids} == {running.process}


async def test_names_that_are_no_jobs_of_ours_go_with_the_next_sweep(started: Started) -> None:
    async with started(None) as running:
        builder, queue = running.builder, running.builder.context.keys("{queue}:jobs")
        names = [
            b"evil.1",
            b"\xff\xfe",
            b"",
            b"another:installation:a-1.1",
            f"{builder.context.keys.prefix}:a-1".encode(),
        ]
        await builder.context.redis.zadd(queue, dict.fromkeys(names, 1))
        running.begin()
        await admitted(builder, 1)
        await until(lambda: running.has(1))
        assert await builder.context.redis.zcard(queue) == len(names)
        await builder.admission.sweep()
        assert await builder.context.redis.zcard(queue) == 0


async def test_a_job_lies_in_the_queue_as_json(started: Started) -> None:
    async with started(None) as running:
        builder = running.builder
        (build_id,) = await admitted(builder, 1)
        raw = await builder.context.redis.get(f"arq:job:{jobs.job_id(builder.context.keys.prefix, build_id, 1)}")
        job = json.loads(raw)
        assert job["f"] == "supervise"
        assert json.loads(*job["a"])["build_id"] == build_id


def test_a_result_is_json_too_whatever_it_is() -> None:
    found = json.loads(jobs.serialize(JOB | {"r": ValueError("It failed."), "s": False}))
    assert found["r"] == "It failed."


# What it tidies


async def supervised(running: Running, build_id: str) -> None:
    """One job, from its beginning to its end."""
    await running.worker.supervise({"job_id": "a"}, json.dumps({"build_id": build_id, "epoch": 1}))


async def test_a_build_that_has_ended_is_tidied(started: Started) -> None:
    async with started(said("one"), Finished(False, "build_failed", "It failed.")) as running:
        builder = running.builder
        (build_id,) = await admitted(builder, 1)
        await supervised(running, build_id)
        assert not await builder.running()
        assert running.scripted.removed == [build_id]
        log = await builder.context.logs.read(build_id)
        assert log
        assert log[-1].is_terminal
        assert not await builder.context.redis.exists(builder.context.keys.waiters(build_id))


async def test_a_build_that_another_worker_owns_by_now_is_not_tidied(started: Started) -> None:
    async def adopted() -> None:
        """As when this process was paused, and found dead."""
        keys, records = builder.context.keys, builder.context.records
        names = [keys.owned(running.process), keys.orphans("builder"), keys.record(topic_of(build_id))]
        await records.scripts.run("disown", names, [running.process, f"b:{build_id}", keys.wake("builder")])
        await builder.offer_slots("another", 1)
        assert await records.adopt("builder", "another", topic=topic_of(build_id))

    async with started(said("one"), adopted, Finished(False, "build_failed", "It failed.")) as running:
        builder, redis = running.builder, running.builder.context.redis
        (build_id,) = await admitted(builder, 1)
        await supervised(running, build_id)
        assert await field(builder, build_id, "owner") == "another"
        assert await builder.running() == {build_id}
        assert running.scripted.removed == []
        assert await builder.context.logs.read(build_id) is None
        assert await redis.ttl(builder.context.keys.events(topic_of(build_id))) == -1
        assert await redis.scard(builder.context.keys.waiters(build_id)) == 1


# How it ends, and what it survives


def builder_settings(valkey: Valkey, folder: Path) -> BuilderSettings:
    own = {"redis_url": valkey.url, "data_dir": folder, "service_token": "a token of the tests'"}
    return settings_for(BuilderSettings, own | QUICK | {"lease_seconds": 60})


async def test_a_worker_whose_part_breaks_hands_over_says_so_and_ends_with_an_error(
    redis: Redis, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    async def broken(_: BuilderWorker) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(BuilderWorker, "run_arq", broken)
    async with asyncio.timeout(60):
        assert await run(builder_settings(valkey, tmp_path)) == 1
    said = logs.getvalue()
    assert "part_ended" in said
    assert "a bug" in said
    assert not await redis.keys("*alive*")
    assert not await redis.keys("*slots*")


async def test_a_worker_that_is_asked_to_end_ends_well(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    ends = asyncio.create_task(run(builder_settings(valkey, tmp_path)))
    await until(lambda: redis.keys("*slots*"))
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await ends == 0


async def test_a_worker_goes_on_when_redis_has_memory_again(started: Started, redis: Redis) -> None:
    async def refused() -> int:
        errors = await redis.info("errorstats")
        return int(errors.get("errorstat_OOM", {}).get("count", 0))

    async with started(None) as running:
        before = await refused()
        await redis.config_set("maxmemory", 1)
        try:
            running.begin()
            await until(lambda: more_than(refused, before + 1))
        finally:
            await redis.config_set("maxmemory", 0)
        await admitted(running.builder, 1)
        await until(lambda: running.has(1))


async def more_than(count: Callable[[], Awaitable[int]], least: int) -> bool:
    return await count() > least
