"""Positions in the queue: the order in which admission gives slots; watchers are notified of changes."""

import asyncio
import random
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.common.context import queue_positions_updated
from services.common.service.loops import background_tasks
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.queue_positions import QueuePosition, QueuePositions
from tests.support.in_process_builder import Builder, open_builder
from tests.support.valkey import Valkey, member_of


async def places_of(builder: Builder, builds: list[str]) -> dict[str, int]:
    return {name: place.position for name, place in (await builder.context.queue_positions.of(*builds)).items()}


async def free_a_slot(builder: Builder, running: list[str]) -> None:
    await builder.admission.done(running.pop(0))


async def admitted_in_order(builder: Builder) -> list[str]:
    """One round of admission; the builds that were given a slot, first come first."""
    admitted = await builder.admit()
    keys = builder.context.keys
    numbers = {}
    for build_id in admitted:
        numbers[build_id] = int(await builder.context.redis.hget(keys.prefix + f":{{b:{build_id}}}:record", "admitted"))
    return sorted(admitted, key=lambda build_id: numbers[build_id])


@pytest.mark.parametrize("seed", range(25))
async def test_places_are_the_order_in_which_slots_are_given(
    redis: Redis, valkey: Valkey, tmp_path: Path, seed: int
) -> None:
    """Capacity, slots, cap, repositories, arrivals and what runs already are drawn by lot."""
    lot = random.Random(seed)
    capacity = lot.randint(1, 6)
    cap = lot.randint(1, 4)
    async with open_builder(valkey, tmp_path, build_capacity=capacity, build_repo_cap=cap) as builder:
        await builder.offer_slots("worker-a", lot.randint(1, 4))
        await builder.offer_slots("worker-b", lot.randint(1, 4))
        repos = [f"repo-{number}" for number in range(lot.randint(1, 5))]
        running: list[str] = []
        waiting: list[str] = []
        for number in range(lot.randint(5, 25)):  # a queue with a past
            build = await builder.request_build(lot.choice([*repos, repos[0]]), f"ref-{number}")
            waiting.append(build.build_id or "")
            if lot.random() < 0.3:
                running += await admitted_in_order(builder)
            if running and lot.random() < 0.3:
                await free_a_slot(builder, running)
        running += await admitted_in_order(builder)
        waiting = [build_id for build_id in waiting if build_id in await places_of(builder, waiting)]
        places = await places_of(builder, waiting)
        assert sorted(places.values()) == list(range(1, len(waiting) + 1))
        expected = sorted(waiting, key=lambda build_id: places[build_id])
        admitted: list[str] = []
        while len(admitted) < len(waiting):
            assert await places_of(builder, expected[len(admitted) :]) == {
                build_id: place for place, build_id in enumerate(expected[len(admitted) :], start=1)
            }
            await free_a_slot(builder, running)
            new = await admitted_in_order(builder)
            running += new
            admitted += new
        assert admitted == expected


async def test_slots_that_are_added_are_given_in_the_order_of_the_places(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_repo_cap=100) as builder:
        builds = [await builder.request_build(repo, str(number)) for number, repo in enumerate("aababcabcdd")]
        places = await places_of(builder, [build.build_id or "" for build in builds])
        admitted = []
        for slots in range(1, len(builds) + 1):
            await builder.offer_slots("worker", slots)
            admitted += await builder.admit()
        assert admitted == sorted(places, key=lambda build_id: places[build_id])


async def test_a_build_held_by_its_repositorys_limit_lets_others_pass_and_is_told_why(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_repo_cap=1) as builder:
        await builder.offer_slots("worker", 2)
        await builder.request_build("other")
        popular = [await builder.request_build("popular", ref) for ref in "abc"]
        assert len(await builder.admit()) == 2
        late = await builder.request_build("late")
        names = [build.build_id or "" for build in (popular[1], popular[2], late)]
        positions = await builder.context.queue_positions.of(*names)
        assert [positions[name].position for name in names] == [2, 3, 1]
        assert positions[names[0]].reason == "This repository has as many builds under way as it may have (1)."
        assert "as it may have (1)" in positions[names[0]].event["message"]
        assert positions[names[2]].event["message"] == "Waiting for a builder: place 1 of 3.\n"


async def test_without_a_living_worker_there_are_places_and_the_reason_says_why(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
        names = [build.build_id or "" for build in builds]
        assert await builder.admit() == []
        positions = await builder.context.queue_positions.of(*names, "0" * 24 + "-1")
        assert [positions[name].position for name in names] == [1, 2, 3]
        assert {place.reason for place in positions.values()} == {"No builder is running."}
        assert "No builder is running." in positions[names[0]].event["message"]


async def test_a_build_that_is_about_to_start_is_not_told_that_builders_are_busy(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, build_repo_cap=1) as builder:
        await builder.offer_slots("worker", 2)
        await builder.admit()
        builds = [
            await builder.request_build(repo, ref) for repo, ref in (("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"))
        ]
        positions = await builder.context.queue_positions.of(*(build.build_id or "" for build in builds))
        assert [place.waiting_for for place in positions.values()] == ["start", "slot", "start", "slot"]
        assert {place.reason for place in positions.values()} == {
            "A builder is about to take it.", "All builders are busy.",
        }  # fmt: skip


async def test_a_build_that_has_a_slot_has_no_place(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        await builder.offer_slots("worker", 1)
        await builder.admit()
        assert await builder.context.queue_positions.of(build.build_id or "") == {}


async def test_a_build_without_a_record_blocks_no_other(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        ghost, there = [await builder.request_build(repo) for repo in ("gone", "there")]
        await redis.delete(builder.context.keys.prefix + f":{{b:{ghost.build_id}}}:record")
        assert await places_of(builder, [ghost.build_id or "", there.build_id or ""]) == {there.build_id: 1}


async def test_a_watcher_is_notified_only_when_the_position_changes(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, queue_tick_seconds=0.01, reread_seconds=60) as builder:
        places = builder.context.queue_positions
        is_notified = asyncio.Event()
        await builder.offer_slots("worker", 1)
        builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
        async with queue_positions_updated(builder.context), asyncio.timeout(60):
            with places.watch(builds[2].build_id or "", is_notified.set) as watched:

                async def next_place() -> QueuePosition | None:
                    await is_notified.wait()
                    is_notified.clear()
                    return watched.queue_position

                first = await next_place()
                assert first
                assert first.position == 3
                await builder.request_build(
                    "behind"
                )  # makes the queue longer, and changes nothing for who is before it
                await builder.admit()
                second = await next_place()
                assert second
                assert (second.position, second.length) == (2, 3)
                await builder.end(builds[0])
                await builder.admit()
                third = await next_place()
                assert third
                assert third.position == 1
                await builder.end(builds[1])
                await builder.admit()
                fourth = await next_place()
                if fourth:  # the queue was read after that build's end, and before this one was admitted
                    assert (fourth.position, fourth.waiting_for) == (1, "start")
                    fourth = await next_place()
                assert fourth is None


async def test_a_waiting_launch_hears_when_the_last_worker_dies_and_when_one_returns(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, queue_tick_seconds=0.01, reread_seconds=60) as builder:
        is_notified = asyncio.Event()
        await builder.offer_slots("worker", 1)
        await builder.request_build("running")
        await builder.admit()
        waits = await builder.request_build("waits")
        async with queue_positions_updated(builder.context), asyncio.timeout(60):
            with builder.context.queue_positions.watch(waits.build_id or "", is_notified.set) as watched:

                async def until(waiting_for: str) -> None:
                    while not watched.queue_position or watched.queue_position.waiting_for != waiting_for:
                        await is_notified.wait()
                        is_notified.clear()

                await until("slot")
                await redis.delete(builder.context.keys.alive("worker"))
                await builder.admit()  # which is when a dead worker is noticed
                await until("worker")
                await builder.offer_slots("another", 1)
                await builder.admit()
                await until("slot")


async def test_a_build_is_given_a_free_slot_as_soon_as_it_is_queued(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    """By the process that sweeps, and by no other."""
    async with open_builder(valkey, tmp_path) as builder:
        context = builder.context
        member = member_of(context, "builder")
        await builder.offer_slots("worker", 1)
        messages = asyncio.Queue[bytes]()

        def hear(message: bytes) -> None:
            builder.admission.on_message(message)
            messages.put_nowait(message)

        await context.bus.listen(context.keys.wake("builder"), hear)
        async with background_tasks(builder.admission.admit_on_change(member)), asyncio.timeout(60):
            first = await builder.request_build("first")
            assert await messages.get() == b"queued"
            assert await builder.running() == set()
            member.is_sweeper = True
            second = await builder.request_build("second")
            while await builder.running() != {first.build_id}:
                await sleep_unless_cancelled(0.01)
            await builder.end(first)
            while await builder.running() != {second.build_id}:
                await sleep_unless_cancelled(0.01)


async def test_a_change_that_was_not_heard_is_found_a_little_later(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with open_builder(valkey, tmp_path, queue_tick_seconds=0.01, reread_seconds=0.1) as builder:
        deaf = QueuePositions(builder.context.redis, builder.context.keys, tick_seconds=0.01, reread_seconds=0.1)
        await builder.offer_slots("worker", 1)
        builds = [await builder.request_build(f"repo-{number}") for number in range(2)]
        is_notified = asyncio.Event()
        async with background_tasks(deaf.run()), asyncio.timeout(60):
            with deaf.watch(builds[1].build_id or "", is_notified.set) as watched:
                while not watched.queue_position or watched.queue_position.position != 2:
                    await is_notified.wait()
                    is_notified.clear()
                await builder.admit()
                await is_notified.wait()
                assert watched.queue_position.position == 1


async def test_a_look_at_another_build_hides_no_change_from_watchers(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    """The answer to the look arrives before the message of the change."""
    async with open_builder(valkey, tmp_path, queue_tick_seconds=0.01, reread_seconds=600) as builder:
        places = QueuePositions(builder.context.redis, builder.context.keys, tick_seconds=0.01, reread_seconds=600)
        await builder.offer_slots("worker", 1)
        _, watched_build, another = [
            (await builder.request_build(f"repo-{number}")).build_id or "" for number in range(3)
        ]
        is_notified = asyncio.Event()
        async with background_tasks(places.run()), asyncio.timeout(60):
            with places.watch(watched_build, is_notified.set) as watched:
                await is_notified.wait()
                is_notified.clear()
                await builder.admit()
                await places.of(another)
                places.on_message(await redis.get(places.channel))
                await is_notified.wait()
                assert watched.queue_position
                assert watched.queue_position.position == 1
