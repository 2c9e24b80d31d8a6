"""A builder worker on a real Redis: what it takes, what it tidies up, and what it survives."""

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from services.builder.executors.base import Finished
from services.builder.queue import dispatch, jobs
from services.builder.queue.admission import Admission
from services.builder.queue.attempts import build_topic
from services.builder.worker.job_poller import JobPoller
from services.builder.worker.supervision import Supervision
from services.common.records.owned_record import OwnedRecord
from services.common.records.records import Records
from services.common.redis.keys import Topic
from tests.support.in_process_builder import Builder, image_of, request_for
from tests.support.in_process_worker import StartWorker, WorkerProcess, admit_builds, field
from tests.support.polling import until
from tests.support.scripted_executor import log_batch
from tests.support.valkey import refusals, until_repeated

# What it takes


async def test_a_worker_takes_as_many_fresh_builds_as_it_has_slots(started: StartWorker) -> None:
    async with started(None, build_slots=2) as first, started(None, build_slots=2) as second:
        first.begin()
        await admit_builds(first.builder, 4)
        await until(lambda: first.has(2))
        second.begin()
        await until(lambda: second.has(2))
        assert await first.has(2)


async def test_jobs_whose_builds_are_not_claimed_yet_use_slots(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = Records.adopt
    start_jobs = JobPoller.start_jobs
    may_claim = asyncio.Event()
    begun: list[Topic] = []
    polls: list[int] = []

    async def count_poll(self: JobPoller, job_ids: list[bytes]) -> None:
        await start_jobs(self, job_ids)
        polls.append(len(job_ids))

    async def slow_adopt(self: Records, *args: Any, **options: Any) -> Any:
        begun.append(options["topic"])
        await may_claim.wait()
        return await adopt(self, *args, **options)

    async with started(None, build_slots=2, job_poll_seconds=0.01) as running:
        monkeypatch.setattr(Records, "adopt", slow_adopt)
        monkeypatch.setattr(JobPoller, "start_jobs", count_poll)
        await running.builder.offer_slots("builder-that-does-not-look", 2)
        await admit_builds(running.builder, 4)
        running.begin()
        await until(lambda: len(polls) > 5 and len(begun) == 2)
        may_claim.set()
        await until(lambda: running.has(2))
        await until(lambda: polls[-1] == 2)  # the jobs of those two have ended
        polls.clear()
        await until(lambda: len(polls) > 5)
        assert set(polls) == {2}
        assert len(begun) == 2


async def test_an_emptied_redis_is_told_which_repository_a_running_build_is_counted_for(
    started: StartWorker, redis: Redis
) -> None:
    async with started(None) as running:
        request = request_for("repo", "a")
        spelled = request.repo.updated(repo_url="https://www.Example.org:443/%72epo.git")
        build = await running.builder.attempts.start(image_of("repo", "a"), request.updated(repo=spelled))
        running.begin()
        await running.builder.admission.admit()
        await until(lambda: running.has(1))
        counts_key = running.builder.context.keys("{queue}:running")
        await redis.delete(counts_key)
        await running.worker.offer_slots()
        assert await redis.hgetall(counts_key) == {str(build.build_id).encode(): b"https://example.org/repo"}


async def test_a_full_worker_takes_what_another_had_and_what_everybody_leaves(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "CLAIM_GRACE_SECONDS", 3600.0)
    async with started(None, build_slots=1) as full:
        builder = full.builder
        redis = full.builder.context.redis
        await builder.offer_slots("builder-that-does-not-look", 2)
        build_ids = await admit_builds(builder, 3)
        full.begin()
        await until(lambda: full.has(1))
        adopted, fresh = [build_id for build_id in build_ids if not await field(builder, build_id, "owner")]
        await redis.hincrby(
            builder.context.keys.record(build_topic(adopted)), "epoch", 1
        )  # as the sweep does for the dead
        await builder.sweep()
        await until(lambda: full.has(2))
        assert await field(builder, fresh, "owner") == ""
        monkeypatch.setattr(dispatch, "CLAIM_GRACE_SECONDS", 0.0)
        await builder.sweep()
        await until(lambda: full.has(3))
        assert await field(builder, fresh, "epoch") == "2"


async def test_builds_are_taken_over_at_a_pace_and_fresh_ones_do_not_wait_for_that(started: StartWorker) -> None:
    async with started(None, build_slots=10, adoptions_per_second=0.1, job_poll_seconds=0.01) as running:
        builder = running.builder
        redis = builder.context.redis
        await builder.offer_slots("builder-that-does-not-look", 10)
        build_ids = await admit_builds(builder, 5)
        for build_id in build_ids[:4]:
            await redis.hincrby(builder.context.keys.record(build_topic(build_id)), "epoch", 1)
        await builder.sweep()
        running.begin()

        await until(lambda: running.has(2))
        assert await field(builder, build_ids[4], "owner") == running.process
        taken_over = [build_id for build_id in build_ids[:4] if await field(builder, build_id, "owner")]
        assert len(taken_over) == 1


async def test_a_poll_takes_over_as_many_builds_as_the_pace_allows_since_the_last_one(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_jobs = JobPoller.start_jobs
    begun: list[int] = []

    async def count_begun(self: JobPoller, job_ids: list[bytes]) -> None:
        before = set(self.tasks)
        await start_jobs(self, job_ids)
        begun.append(len(set(self.tasks) - before))

    monkeypatch.setattr(JobPoller, "start_jobs", count_begun)
    async with started(None, build_slots=1, adoptions_per_second=4, job_poll_seconds=3.0) as running:
        builder = running.builder
        await builder.offer_slots("builder-that-does-not-look", 20)
        for build_id in await admit_builds(builder, 12):
            await builder.context.redis.hincrby(builder.context.keys.record(build_topic(build_id)), "epoch", 1)
        await builder.sweep()
        running.begin()
        await until(lambda: running.has(12))
        assert max(begun) == 12


async def test_a_job_that_was_begun_and_abandoned_is_offered_again(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(None) as running:
        builder = running.builder
        redis = running.builder.context.redis
        (build_id,) = await admit_builds(builder, 1)
        job_id = jobs.job_id(builder.context.keys.prefix, build_id, 1)
        await redis.set(f"arq:in-progress:{job_id}", "1")  # its worker was killed before it had claimed the build
        running.begin()
        monkeypatch.setattr(dispatch, "CLAIM_GRACE_SECONDS", 0.0)
        await builder.sweep()
        await until(lambda: running.has(1))
        await builder.sweep()
        assert not await redis.exists(f"arq:in-progress:{job_id}")


async def test_a_slot_is_free_again_while_what_is_left_of_its_build_is_tidied(started: StartWorker) -> None:
    async with started(log_batch("one"), Finished(False, "build_failed", "It failed."), build_slots=1) as running:
        builder = running.builder
        scripted = running.scripted
        scripted.may_remove.clear()
        await admit_builds(builder, 1)
        running.begin()
        await until(lambda: none_runs(builder))
        await builder.request_build("another")
        assert len(await builder.admit()) == 1
        await until(lambda: none_runs(builder))
        assert scripted.removals == []
        scripted.may_remove.set()


async def none_runs(builder: Builder) -> bool:
    return not await builder.running()


# What it tidies


async def supervised(running: WorkerProcess, build_id: str) -> None:
    """Run one job, and supervise its build to the end."""
    await running.worker.supervise({"job_id": "a"}, json.dumps({"build_id": build_id, "epoch": 1}))
    assert running.member.owns(build_topic(build_id))
    await until(lambda: not running.member.owns(build_topic(build_id)))


async def test_a_build_that_has_ended_is_tidied(started: StartWorker) -> None:
    async with started(log_batch("one"), Finished(False, "build_failed", "It failed.")) as running:
        builder = running.builder
        (build_id,) = await admit_builds(builder, 1)
        await supervised(running, build_id)
        assert not await builder.running()
        assert running.scripted.removals == [build_id]
        log = await builder.context.logs.read(build_id)
        assert log
        assert log[-1].is_terminal
        assert not await builder.context.redis.exists(builder.context.keys.waiters(build_id))


async def test_a_build_that_another_worker_owns_by_now_is_not_tidied(started: StartWorker) -> None:
    async def adopted() -> None:
        """As when this process was paused, and found dead."""
        keys = builder.context.keys
        records = builder.context.records
        names = [keys.owned(running.process), keys.orphans("builder"), keys.record(build_topic(build_id))]
        await records.scripts.run("disown", names, [running.process, f"b:{build_id}", keys.wake("builder")])
        await builder.offer_slots("another", 1)
        assert await records.adopt("builder", "another", topic=build_topic(build_id))

    async with started(log_batch("one"), adopted, Finished(False, "build_failed", "It failed.")) as running:
        builder = running.builder
        redis = running.builder.context.redis
        (build_id,) = await admit_builds(builder, 1)
        await supervised(running, build_id)
        assert await field(builder, build_id, "owner") == "another"
        assert await builder.running() == {build_id}
        assert running.scripted.removals == []
        assert await builder.context.logs.read(build_id) is None
        assert await redis.ttl(builder.context.keys.events(build_topic(build_id))) == -1
        assert await redis.scard(builder.context.keys.waiters(build_id)) == 1


async def test_a_build_whose_tidying_is_cut_short_is_tidied_by_the_process_that_sweeps(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never_done(_: Admission, _build_id: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with started(log_batch("one"), Finished(False, "build_failed", "It failed.")) as running:
        builder = running.builder
        monkeypatch.setattr(Admission, "done", never_done)
        (build_id,) = await admit_builds(builder, 1)
        running.begin()
        await begun.wait()
        await running.member.hand_over()
        monkeypatch.undo()
        assert await builder.running()

        await builder.sweep()
        assert not await builder.running()
        assert (await builder.context.logs.read(build_id) or [])[-1].is_terminal


# What it survives


async def test_a_build_whose_job_is_cancelled_after_the_claim_is_found_and_supervised(
    started: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = Records.adopt
    claims = []

    async def cancelled_after_the_claim(self: Records, *args: Any, **options: Any) -> Any:
        claims.append(await adopt(self, *args, **options))
        if len(claims) == 1:
            raise asyncio.CancelledError
        return claims[-1]

    async with started(None) as running:
        monkeypatch.setattr(Records, "adopt", cancelled_after_the_claim)
        (build_id,) = await admit_builds(running.builder, 1)
        running.begin()

        async def is_supervised() -> bool:
            await running.builder.sweep()
            return running.worker.running_count == 1

        await until(is_supervised)
        assert await field(running.builder, build_id, "owner") == running.process
        assert await field(running.builder, build_id, "epoch") == "2"


async def test_a_build_whose_supervision_can_not_begin_is_not_worked_on(
    started: StartWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[OwnedRecord] = []

    def breaks(self: Supervision) -> None:
        begun.append(self.record)
        raise ValueError("a field that can't be read")

    monkeypatch.setattr(Supervision, "__post_init__", breaks)
    async with started(None) as running:
        (build_id,) = await admit_builds(running.builder, 1)
        running.begin()
        await until(lambda: bool(begun))
        await until(lambda: not running.member.owns(build_topic(build_id)), "the work has ended")
        assert build_id not in running.worker.cancel_requests
        assert running.worker.running_count == 0


async def test_a_worker_goes_on_when_redis_has_memory_again(started: StartWorker, redis: Redis) -> None:
    async with started(None) as running:
        await redis.config_set("maxmemory", 1)
        try:
            running.begin()
            await until_repeated(lambda: refusals(redis, "OOM"))
        finally:
            await redis.config_set("maxmemory", 0)
        await admit_builds(running.builder, 1)
        await until(lambda: running.has(1))
