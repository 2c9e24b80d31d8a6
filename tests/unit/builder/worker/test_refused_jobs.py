"""Jobs in the queue that a worker refuses, and that no build is lost by that."""

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import arq.worker
import pytest
from arq.connections import ArqRedis

from services.builder.queue import dispatch, jobs
from services.builder.queue.attempts import build_topic
from tests.support.in_process_worker import StartWorker, WorkerProcess, admit_builds, field, more_than
from tests.support.logs import line_of
from tests.support.metrics import sample
from tests.support.polling import until


@dataclass
class Mark:
    """An object whose unpickling leaves a file behind."""

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


async def taken_after_refusing(running: WorkerProcess, build_id: str, raw: bytes) -> None:
    """Put something in the place of a build's job: the worker refuses it, and takes the build all the same."""
    builder = running.builder
    before = await refused_jobs()
    job_key = f"arq:job:{jobs.job_id(builder.context.keys.prefix, build_id, 1)}"
    await builder.context.redis.set(job_key, raw)
    running.begin()
    await until(lambda: more_than(refused_jobs, before))

    async def is_forgotten() -> bool:  # by arq, soon after: a sweep in between takes the job for one that nobody claims
        return not await builder.context.redis.exists(job_key)

    await until(is_forgotten)
    await until(lambda: swept(running, 1))
    assert running.is_looking()
    assert await field(builder, build_id, "epoch") == "1"


async def refused_jobs() -> int:
    return int(sample("bindery_jobs_refused_total"))


async def swept(running: WorkerProcess, count: int) -> bool:
    """Sweep once; return whether the worker supervises `count` builds after it."""
    await running.builder.sweep()
    return await running.has(count)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_a_pickled_job_is_never_unpickled_and_its_build_is_taken_all_the_same(
    protocol: int, started: StartWorker, tmp_path: Path, logs: io.StringIO
) -> None:
    mark = tmp_path / "unpickled"
    async with started(None) as running:
        (build_id,) = await admit_builds(running.builder, 1)
        await taken_after_refusing(running, build_id, pickle.dumps(JOB | {"k": Mark(mark)}, protocol))
    assert not mark.exists()
    why = line_of(logs, "job_refused")["why"]
    assert why == ("it is a pickle" if protocol > 1 else "it is not a job of this release")
    pickle.loads(pickle.dumps(Mark(mark), protocol))  # noqa: S301 -- our own, to see that it leaves one
    assert mark.exists()


@pytest.mark.parametrize("raw", NO_JOBS.values(), ids=NO_JOBS)
async def test_a_malformed_job_is_refused_and_ends_nothing(raw: bytes, started: StartWorker) -> None:
    async with started(None) as running:
        (build_id,) = await admit_builds(running.builder, 1)
        await taken_after_refusing(running, build_id, raw)


async def test_builds_with_jobs_pickled_by_the_previous_release_are_not_lost(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "CLAIM_GRACE_SECONDS", 0.5)
    async with started(None, build_slots=4) as running:
        builder = running.builder
        prefix = running.builder.context.keys.prefix
        build_ids = await admit_builds(builder, 3)
        adopted_id, begun_id, _ = build_ids
        await builder.context.redis.hincrby(builder.context.keys.record(build_topic(adopted_id)), "epoch", 1)
        await builder.context.redis.delete(*[f"arq:job:{jobs.job_id(prefix, build_id, 1)}" for build_id in build_ids])
        before = ArqRedis(
            builder.context.redis.connection_pool, default_queue_name=builder.context.keys("{queue}:jobs")
        )
        for build_id in build_ids:
            epoch = int(await field(builder, build_id, "epoch"))
            argument = json.dumps({"v": 1, "build_id": build_id, "epoch": epoch})
            assert await before.enqueue_job("supervise", argument, _job_id=jobs.job_id(prefix, build_id, epoch))
        await builder.context.redis.set(f"arq:in-progress:{jobs.job_id(prefix, begun_id, 1)}", "1")
        running.begin()
        await until(lambda: swept(running, 3))
        assert {await field(builder, build_id, "owner") for build_id in build_ids} == {running.process}


async def test_the_next_sweep_removes_names_that_are_not_jobs_of_ours(started: StartWorker) -> None:
    async with started(None) as running:
        builder = running.builder
        queue = running.builder.context.keys("{queue}:jobs")
        names = [
            b"evil.1",
            b"\xff\xfe",
            b"",
            b"another:installation:a-1.1",
            f"{builder.context.keys.prefix}:a-1".encode(),
        ]
        await builder.context.redis.zadd(queue, dict.fromkeys(names, 1))
        running.begin()
        await admit_builds(builder, 1)
        await until(lambda: running.has(1))

        async def only_names_are_left() -> bool:  # the worker claims the build first, and then takes out its job
            return set(await builder.context.redis.zrange(queue, 0, -1)) == set(names)

        await until(only_names_are_left)
        await builder.sweep()
        assert await builder.context.redis.zcard(queue) == 0


async def test_a_worker_whose_clock_is_behind_takes_a_job_at_once(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = arq.worker.timestamp_ms
    monkeypatch.setattr(arq.worker, "timestamp_ms", lambda: real() - 50_000)
    async with started(None) as running:
        await admit_builds(running.builder, 1)
        running.begin()
        await until(lambda: running.has(1), seconds=10)


async def test_a_job_in_the_queue_is_json(started: StartWorker) -> None:
    async with started(None) as running:
        builder = running.builder
        (build_id,) = await admit_builds(builder, 1)
        raw = await builder.context.redis.get(f"arq:job:{jobs.job_id(builder.context.keys.prefix, build_id, 1)}")
        job = json.loads(raw)
        assert job["f"] == "supervise"
        assert json.loads(*job["a"])["build_id"] == build_id


def test_a_result_is_json_too_whatever_it_is() -> None:
    stored = json.loads(jobs.serialize(JOB | {"r": ValueError("It failed."), "s": False}))
    assert stored["r"] == "It failed."
