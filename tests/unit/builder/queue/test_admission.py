"""Admission in a real Redis: which builds get a slot, in which order, with any number of processes."""

import asyncio
import io
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.queue.attempts import build_topic
from services.builder.queue.dispatch import Dispatcher
from services.builder.queue.jobs import job_id
from services.common.models import BuildState
from services.common.models.error_codes import AUTHOR_CODES
from services.common.records.stored_record import RecordUnreadable
from tests.support.in_process_builder import image_of, open_builder, request_for
from tests.support.valkey import Valkey, member_of


@pytest.mark.usefixtures("redis")
async def test_as_many_builds_run_as_there_are_slots(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        builds = [await builder.request_build(f"repo-{number}") for number in range(5)]
        await builder.offer_slots("worker-a", 2)
        await builder.offer_slots("worker-b", 1)
        assert len(await builder.admit()) == 3
        assert await builder.admit() == []
        await builder.end(builds[0])
        assert await builder.admit() == [builds[3].build_id]


@pytest.mark.usefixtures("redis")
async def test_the_installation_has_a_capacity_below_its_workers(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, build_capacity=2) as builder:
        for number in range(4):
            await builder.request_build(f"repo-{number}")
        await builder.offer_slots("worker", 10)
        assert len(await builder.admit()) == 2


async def test_without_a_living_worker_nothing_is_admitted(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        await builder.offer_slots("worker", 4)
        await redis.delete(builder.context.keys.alive("worker"))
        assert await builder.admit() == []
        await builder.offer_slots("another", 1)
        assert await builder.admit() == [build.build_id]


async def test_a_worker_that_revives_its_lease_has_the_slots_that_it_offered(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        keys = builder.context.keys
        build = await builder.request_build("repo")
        await builder.offer_slots("worker", 4)
        await redis.sadd(keys.processes("builder"), "worker")
        await redis.delete(keys.alive("worker"))
        assert await builder.admit() == []
        await redis.set(keys.alive("worker"), "1")
        assert await builder.admit() == [build.build_id]

        await redis.srem(keys.processes("builder"), "worker")  # released by a sweeper: it takes a lease anew
        await redis.delete(keys.alive("worker"))
        await builder.admit()
        assert await redis.hgetall(keys("slots")) == {}


@pytest.mark.usefixtures("redis")
async def test_one_repository_takes_no_more_than_its_share(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, build_repo_cap=2) as builder:
        popular = [await builder.request_build("popular", ref) for ref in "abcd"]
        other = await builder.request_build("other")
        await builder.offer_slots("worker", 10)
        first = await builder.admit()
        assert first == sorted(str(build.build_id) for build in (*popular[:2], other))
        await builder.end(popular[0])
        assert await builder.admit() == [popular[2].build_id]


async def test_one_repository_has_one_share_however_its_url_is_written(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    urls = [
        "https://example.org/popular", "https://example.org:443/popular", "https://www.example.org/popular",
        "https://Example.org./popular.git", "https://example.org/%70opular/", "https://example.org/./popular",
        "https://user@example.org/popular", "http://example.org//popular",
    ]  # fmt: skip
    async with open_builder(valkey, tmp_path, build_repo_cap=2) as builder:
        builds = []
        for number, url in enumerate(urls):
            request = request_for("popular", str(number))
            request = request.updated(repo=request.repo.updated(repo_url=url))
            builds.append(await builder.attempts.start(image_of("popular", str(number)), request))
        other = await builder.request_build("other")
        assert [build.repo_url for build in builds] == urls  # what is fetched, and what images are labelled with
        await builder.offer_slots("worker", 10)
        assert await builder.admit() == sorted(str(build.build_id) for build in (*builds[:2], other))
        await builder.end(builds[0])
        assert await builder.admit() == [builds[2].build_id]
        running_repos = await redis.hvals(builder.context.keys("{queue}:running"))
        assert sorted(running_repos) == [b"https://example.org/other"] + [b"https://example.org/popular"] * 2


@pytest.mark.usefixtures("redis")
async def test_spellings_of_one_repository_wait_in_one_turn(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        popular = []
        for number, host in enumerate(("example.org", "EXAMPLE.org", "example.org.")):
            request = request_for("popular", str(number))
            request = request.updated(repo=request.repo.updated(repo_url=f"https://{host}/popular"))
            popular.append(await builder.attempts.start(image_of("popular", str(number)), request))
        other = await builder.request_build("other")
        await builder.offer_slots("worker", 1)
        order = []
        for _ in range(4):
            (build_id,) = await builder.admit()
            order.append(build_id)
            await builder.end(next(build for build in (*popular, other) if build.build_id == build_id))
        assert order == [build.build_id for build in (popular[0], other, *popular[1:])]


@pytest.mark.usefixtures("redis")
async def test_repositories_take_turns_and_within_one_the_first_comes_first(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        popular = [await builder.request_build("popular", ref) for ref in "abc"]
        other_builds = [await builder.request_build(repo) for repo in ("x", "y")]
        await builder.offer_slots("worker", 1)
        order = []
        for _ in range(5):
            (build_id,) = await builder.admit()
            order.append(build_id)
            await builder.end(next(build for build in (*popular, *other_builds) if build.build_id == build_id))
        wanted = [popular[0], other_builds[0], other_builds[1], popular[1], popular[2]]
        assert order == [build.build_id for build in wanted]


@pytest.mark.usefixtures("redis")
async def test_a_late_build_is_not_ahead_of_builds_that_waited(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        await builder.offer_slots("worker", 1)
        for ref in "abcde":
            await builder.request_build("popular", ref)
        (first,) = await builder.admit()
        await builder.admission.done(first)
        (second,) = await builder.admit()
        late = await builder.request_build("late")
        await builder.admission.done(second)
        assert await builder.admit() != [first]
        third = (await builder.running()).pop()
        await builder.admission.done(third)
        assert late.build_id in {third, *(await builder.admit())}


async def test_two_processes_that_admit_at_once_give_no_slot_twice(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as first, open_builder(valkey, tmp_path) as second:
        for number in range(20):
            await first.request_build(f"repo-{number}")
        await first.offer_slots("worker", 7)
        await asyncio.gather(*(builder.admission.admit() for builder in (first, second) * 5))
        assert len(await first.running()) == 7
        assert await redis.zcard(first.context.keys("{queue}:waiting")) == 13


async def test_a_build_whose_slot_redis_has_lost_has_one_when_it_has_lost_its_owner_too(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        context = builder.context
        worker = member_of(context, "builder")
        await worker.take_lease()
        build_id = (await builder.request_build("repo")).build_id or ""
        await builder.offer_slots(worker.process, 1)
        assert await builder.admit() == [build_id]
        assert await context.records.adopt("builder", worker.process, topic=build_topic(build_id), epoch=1)
        await redis.hdel(context.keys("{queue}:running"), build_id)

        await worker.hand_over()
        await builder.request_build("another")
        await builder.offer_slots("another-worker", 1)
        await builder.sweep()
        assert await builder.running() == {build_id}  # and nothing else: its slot is the only one
        jobs = await redis.zrange(context.keys("{queue}:jobs"), 0, -1)
        assert jobs == [job_id(context.keys.prefix, build_id, 2).encode()]


async def test_orphans_that_need_no_owner_any_more_are_forgotten(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        await builder.offer_slots("worker", 2)
        await builder.end(build)
        await redis.sadd(builder.context.keys.orphans("builder"), f"b:{build.build_id}", "b:no-record-1", "x:unknown")
        await builder.sweep()
        assert await builder.running() == set()
        assert not await redis.exists(builder.context.keys.orphans("builder"))


@pytest.mark.usefixtures("redis")
async def test_each_admission_raises_the_epoch_under_which_the_build_is_claimed(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        await builder.offer_slots("worker", 1)
        await builder.admit()
        stored = await builder.attempts.read(build.build_id or "")
        assert stored
        assert stored.record.epoch == 1


async def test_nothing_is_left_of_a_queue_that_is_empty(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        await builder.offer_slots("worker", 4)
        builds = [await builder.request_build(f"repo-{number}", launch_ref="launch") for number in range(3)]
        await builder.admit()
        for build in builds:
            await builder.end(build)
            await builder.cleanup.store_log(build.build_id or "")
        await builder.sweep()
        queue_keys = {key.decode().removeprefix(builder.context.keys("")) for key in await redis.keys("*{queue}*")}
        assert queue_keys == {"{queue}:version", "{queue}:limits"}
        assert not await redis.keys("*waiters*")


async def test_nobody_joins_the_waiters_of_a_build_that_has_ended(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo", launch_ref="first")
        await builder.attempts.join(build.build_id or "", request_for("repo", "a", "second"))
        assert await redis.scard(builder.context.keys.waiters(build.build_id or "")) == 2
        await builder.end(build)
        await builder.attempts.join(build.build_id or "", request_for("repo", "a", "third"))
        assert not await redis.exists(builder.context.keys.waiters(build.build_id or ""))


async def test_a_build_waits_for_a_slot_up_to_a_maximum_and_no_longer(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_queue_max_seconds=3600) as builder:
        late = await builder.request_build("late", launch_ref="launch")
        soon = await builder.request_build("soon")
        late_id = late.build_id or ""
        soon_id = soon.build_id or ""
        await builder.sweep()
        assert await redis.zcard(builder.context.keys("{queue}:waiting")) == 2
        record = builder.context.keys.record(build_topic(late_id))
        await redis.hincrby(record, "queued_ms", -3_600_000)
        await builder.sweep()

        stored = await builder.attempts.read(late_id)
        assert stored
        assert stored.build.state is BuildState.FAILED
        assert stored.build.error
        assert stored.build.error.code == "build_queue_full"
        assert stored.build.error.code not in AUTHOR_CODES  # whoever asks again waits again
        assert await redis.zrange(builder.context.keys("{queue}:waiting"), 0, -1) == [soon_id.encode()]
        assert not await redis.exists(builder.context.keys.waiters(late_id))
        await builder.sweep()
        log = await builder.context.logs.read(late_id)
        assert log
        assert log[-1].is_terminal


async def test_a_build_that_is_claimed_while_it_is_offered_is_not_offered_again(
    redis: Redis, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        build_id = build.build_id or ""
        await builder.offer_slots("worker", 1)
        await builder.admit()
        jobs_key = builder.context.keys("{queue}:jobs")
        offer = Dispatcher.offer

        async def offered_late(self: Dispatcher, build_id: str, epoch: int) -> None:
            """Offer a build whose owner was read before a worker claimed it, and took its job out of the queue."""
            assert await builder.context.records.adopt("builder", "worker", topic=build_topic(build_id), epoch=epoch)
            await redis.zrem(jobs_key, job_id(builder.context.keys.prefix, build_id, epoch))
            await offer(self, build_id, epoch)

        monkeypatch.setattr(Dispatcher, "offer", offered_late)
        await builder.sweep()
        stored = await builder.attempts.read(build_id)
        assert stored
        assert (stored.record.epoch, stored.record.get("owner")) == (1, "worker")
        assert "job_left" not in logs.getvalue()


async def test_a_job_of_a_build_that_has_an_owner_is_dropped(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        build_id = build.build_id or ""
        await builder.offer_slots("worker", 1)
        await builder.admit()
        assert await builder.context.records.adopt("builder", "worker", topic=build_topic(build_id), epoch=1)
        await builder.dispatcher.offer(build_id, 1)  # by a process that had read the record before
        await builder.sweep()
        assert not await redis.exists(builder.context.keys("{queue}:jobs"))
        assert not await redis.keys("arq:*")


async def test_a_build_that_cannot_be_read_keeps_no_other_from_its_end_and_is_followed_by_another_attempt(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_queue_max_seconds=3600) as builder:
        damaged = await builder.request_build("damaged", launch_ref="launch")
        late = await builder.request_build("late")
        for build in (damaged, late):
            await redis.hincrby(builder.context.keys.record(build_topic(build.build_id or "")), "queued_ms", -3_600_000)
        topic = build_topic(damaged.build_id or "")
        record = builder.context.keys.record(topic)
        await redis.hset(record, "body", "{")
        await redis.zadd(builder.context.keys("{queue}:abandoned"), {topic.id: 1})
        await builder.sweep()
        stored = await builder.attempts.read(late.build_id or "")
        assert stored
        assert stored.build.state is BuildState.FAILED
        with pytest.raises(RecordUnreadable):
            await builder.attempts.read(topic.id)

        await builder.offer_slots("worker", 4)
        assert await builder.admit() == [topic.id]
        for _ in range(5):
            assert await builder.context.records.adopt("builder", "worker", topic=topic) is None
            await redis.hset(record, "owner", "")
        assert await redis.hget(record, "final") == b"1"
        await builder.sweep()
        await builder.sweep()
        assert not await redis.hexists(builder.context.keys("{queue}:running"), topic.id)
        assert not await redis.exists(builder.context.keys.waiters(topic.id))
        log = await builder.context.logs.read(topic.id)
        assert log
        assert log[-1].is_terminal
        assert (await builder.request_build("damaged")).build_id == topic.id.replace("-1", "-2")
