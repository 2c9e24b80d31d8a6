"""Seats in a real Redis: a set by identity, with a queue in front of it that repositories share evenly."""

import asyncio
import contextlib

import pytest

from services.common.context import ProcessContext
from services.common.models.errors import BinderyError
from services.launcher.seats.positions import BlockedBy, SeatAnswer, SeatPosition
from services.launcher.seats.seats import COUNT_UNKNOWN, QUOTA_REACHED, SeatClaim
from tests.support.in_process_launcher import REPO
from tests.support.sample_seats import ask, look, repo_of, seats_of, server

pytestmark = pytest.mark.usefixtures("are_counted")


async def test_seats_are_taken_until_there_are_none_and_then_there_is_a_queue(context: ProcessContext) -> None:
    seats = seats_of(context, 2)
    assert [await ask(seats, number) for number in range(5)] == [0, 0, 1, 2, 3]
    assert sorted(await seats.holders()) == ["server-000", "server-001"]
    assert await seats.waiting_server_ids() == ["server-002", "server-003", "server-004"]


async def test_taking_twice_is_taking_once(context: ProcessContext) -> None:
    seats = seats_of(context, 1)
    assert [await ask(seats, 1) for _ in range(3)] == [0, 0, 0]
    assert [await ask(seats, 2) for _ in range(3)] == [1, 1, 1]
    assert len(await seats.holders()) == 1


async def test_a_seat_given_back_goes_to_the_first_in_the_queue_whoever_looks(context: ProcessContext) -> None:
    seats = seats_of(context, 1)
    for number in range(3):
        await ask(seats, number)
    await seats.release("server-000")
    assert await look(seats, 2, 1, 0) == [1, 0, SeatAnswer.UNKNOWN]


async def test_a_launch_that_leaves_the_queue_moves_the_others_up(context: ProcessContext) -> None:
    seats = seats_of(context, 1)
    for number in range(4):
        await ask(seats, number)
    await seats.release("server-001")
    assert await look(seats, 3) == [2]


async def test_however_many_ask_at_once_no_more_seats_are_taken_than_there_are(context: ProcessContext) -> None:
    seats = seats_of(context, 5)
    places = await asyncio.gather(*(ask(seats, number) for number in range(40)))
    assert sorted(places)[:5] == [0] * 5
    assert sorted(await look(seats, *range(40))) == [0] * 5 + list(range(1, 36))


async def test_without_a_limit_everyone_sits(context: ProcessContext) -> None:
    assert [await ask(seats_of(context, -1), number) for number in range(50)] == [0] * 50


@pytest.mark.parametrize(("total", "quota", "kind"), [(0, None, None), (0, 0, None), (5, None, "huge")])
async def test_a_launch_that_can_never_have_a_seat_does_not_wait(
    context: ProcessContext, total: int, quota: int | None, kind: str | None
) -> None:
    seats = seats_of(context, total)
    assert await ask(seats, 1, quota=quota, kind=kind) == SeatAnswer.NEVER
    with pytest.raises(BinderyError) as raised:
        await seats.check(repo_of("a", quota, kind))
    assert raised.value.code == "quota_exceeded"
    assert await seats.waiting_server_ids() == []


@pytest.mark.parametrize("unlimited", [0, -1])
async def test_a_quota_of_0_means_no_limit_as_in_binderhub(context: ProcessContext, unlimited: int) -> None:
    seats = seats_of(context, 4, seats_per_repo=1)
    await seats.check(repo_of("a", unlimited))
    assert [await ask(seats, number, "a", quota=unlimited) for number in range(5)] == [0, 0, 0, 0, 1]
    seats = seats_of(context, -1, seats_per_repo=unlimited)
    assert [await ask(seats, number, "b") for number in range(10, 13)] == [0, 0, 0]


async def test_a_launch_is_refused_when_the_waiting_room_is_full(context: ProcessContext) -> None:
    seats = seats_of(context, 1, seats_waiting_max=2)
    await seats.check(repo_of("a"))
    assert [await ask(seats, number) for number in range(4)] == [0, 1, 2, SeatAnswer.FULL]
    with pytest.raises(BinderyError, match="too many launches wait"):
        await seats.check(repo_of("b"))
    assert await ask(seats, 1) == 1  # who is in stays in
    await seats.release("server-001")
    await seats.check(repo_of("b"))
    assert await ask(seats, 4) == 2


async def test_without_a_waiting_room_a_free_seat_is_taken_and_nobody_waits(context: ProcessContext) -> None:
    seats = seats_of(context, 1, seats_waiting_max=0)
    await seats.check(repo_of("a"))
    assert [await ask(seats, number) for number in range(2)] == [0, SeatAnswer.FULL]
    with pytest.raises(BinderyError):
        await seats.check(repo_of("a"))


async def test_a_repository_at_its_quota_keeps_no_other_one_waiting(context: ProcessContext) -> None:
    seats = seats_of(context, 10, seats_per_repo=2)
    assert [await ask(seats, number) for number in range(4)] == [0, 0, 1, 2]
    assert await ask(seats, 4, "b") == 0
    assert await ask(seats, 5, "b", quota=1) == 1  # its repository has fewer seats
    assert (await seats.take(server(3), repo_of("a"))) == SeatPosition(3, QUOTA_REACHED, BlockedBy.KEPT_OUT)
    await seats.release("server-004")
    assert await look(seats, 2, 5) == [1, 0]


async def test_a_large_server_is_not_overtaken_for_ever(context: ProcessContext) -> None:
    seats = seats_of(context, 4)
    assert [await ask(seats, 0), await ask(seats, 1)] == [0, 0]
    assert await ask(seats, 2, "b", kind="large") == 1
    assert await ask(seats, 3, "c") == 2
    await seats.release("server-000")
    assert await look(seats, 2, 3) == [0, 1]


async def test_a_server_that_the_hub_lists_holds_a_seat_which_it_may_have_had_before(context: ProcessContext) -> None:
    seats = seats_of(context, 5)
    await ask(seats, 1)
    reserved = await seats.holders()
    await seats.count(SeatClaim("server-001"), SeatClaim("server-002", "https://example.org/a", "large"))
    members = await seats.holders()
    assert members["server-001"] == reserved["server-001"]
    assert [await ask(seats, number) for number in (3, 4)] == [0, 1]


async def test_wrong_totals_of_seats_are_recomputed(context: ProcessContext) -> None:
    seats = seats_of(context, 3)
    await ask(seats, 1)
    totals_key = context.keys("{seats}:held")
    right = await context.redis.hgetall(totals_key)
    await context.redis.hset(totals_key, mapping={"total": 3, "u:gone": 2})
    assert await ask(seats, 2) == 1
    await seats.repair_totals()
    assert await look(seats, 2) == [0]
    await seats.release("server-002")
    assert await context.redis.hgetall(totals_key) == right


async def test_nothing_is_left_of_seats_that_were_given_back(context: ProcessContext) -> None:
    seats = seats_of(context, 2)
    for number in range(6):
        await ask(seats, number, "ab"[number % 2])
    await seats.release(*(f"server-{number:03d}" for number in range(6)))
    assert await context.redis.keys(context.keys("{seats}*")) == []


async def test_until_it_is_known_how_many_servers_run_nobody_gets_a_seat(context: ProcessContext) -> None:
    await context.redis.delete(context.keys("seats:counted"))
    seats = seats_of(context, 2, seats_per_repo=5)
    seats.count_needed.clear()
    assert [await ask(seats, 1), await ask(seats, 2)] == [1, 2]
    assert seats.count_needed.is_set()
    await seats.repair_totals()
    place = await seats.take(server(2), repo_of("a"))
    assert place.queue
    assert place.queue.reason == COUNT_UNKNOWN
    assert place.waits_for_count
    token = await seats.begin_count()
    assert await seats.begin_count() == token  # another launcher counts, too
    await seats.count(SeatClaim("server-009", "https://example.org/b"))
    assert await look(seats, 1, 2) == [1, 2]
    assert await seats.end_count(token)
    assert await look(seats, 1, 2) == [0, 1]
    assert not await seats.begin_count()


async def test_a_count_made_while_redis_was_emptied_does_not_count(context: ProcessContext) -> None:
    await context.redis.flushall()
    seats = seats_of(context, 2)
    token = await seats.begin_count()
    await context.redis.flushall()
    assert not await seats.end_count(token)
    assert await ask(seats, 1) == 1


async def test_a_seat_that_nothing_limits_is_given_uncounted(context: ProcessContext) -> None:
    await context.redis.flushall()
    seats = seats_of(context, -1)
    assert [await ask(seats, 1), await ask(seats, 2, quota=3)] == [0, 1]


async def test_without_a_waiting_room_one_waits_for_the_count_all_the_same(context: ProcessContext) -> None:
    await context.redis.flushall()
    seats = seats_of(context, 2, seats_waiting_max=0)
    await seats.check(repo_of("a"))
    assert await ask(seats, 1) == 1


async def test_a_start_that_is_under_way_is_counted_where_redis_has_lost_it(context: ProcessContext) -> None:
    seats = seats_of(context, 2)
    await ask(seats, 1)
    with seats.include_in_counts(server(1), repo_of("a", quota=1)):
        await context.redis.flushall()
        token = await seats.begin_count()
        await seats.count_own_starts()
        await seats.end_count(token)
    assert [await ask(seats, 2, quota=1), await ask(seats, 3, "b")] == [1, 0]
    assert (await seats.holders())["server-001"].user == "user-1"


async def test_a_start_that_this_process_adopted_is_counted_when_its_earlier_run_has_ended(
    context: ProcessContext,
) -> None:
    seats = seats_of(context, 2)
    with contextlib.ExitStack() as earlier_run:
        earlier_run.enter_context(seats.include_in_counts(server(1), repo_of("a")))
        with seats.include_in_counts(server(1), repo_of("a")):
            earlier_run.close()
            await seats.count_own_starts()
            assert list(await seats.holders()) == ["server-001"]
    await context.redis.flushall()
    await seats.count_own_starts()
    assert not await seats.holders()


async def test_a_repository_has_one_quota_however_its_url_is_written(context: ProcessContext) -> None:
    seats = seats_of(context, 100, seats_per_repo=1)
    urls = [
        "https://github.com/Org/Repo", "https://GitHub.com/org/repo.git", "https://github.com/org/REPO/",
        "https://github.com:443/org/repo", "https://www.github.com/org/repo", "https://github.com./org/repo",
        "https://github.com/%6Frg/repo", "https://github.com/./org/repo", "https://user@github.com/org/repo",
        "http://github.com/org//repo",
    ]  # fmt: skip
    repos = [REPO.updated(repo_url=url, ignores_case=True) for url in urls]
    places = [(await seats.take(server(number), repo)).number for number, repo in enumerate(repos)]
    assert places == list(range(10))
    assert (await seats.take(server(15), REPO.updated(repo_url="https://github.com/org/other"))).number == 0
    other = [REPO.updated(repo_url=url) for url in ("https://example.org/A", "https://example.org/a")]
    assert [(await seats.take(server(20 + n), repo)).number for n, repo in enumerate(other)] == [0, 0]
