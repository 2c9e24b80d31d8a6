"""Seats in a real Redis: a set by identity, with a queue in front of it that repositories share evenly."""

import asyncio
import contextlib
import itertools
import random
from dataclasses import dataclass, field

import pytest

from services.common.context import ProcessContext
from services.common.models import ResolvedRepo, Server, ServerId, ServerState
from services.common.models.errors import BinderyError
from services.launcher.seats.positions import SeatAnswer, SeatPosition
from services.launcher.seats.seats import COUNT_UNKNOWN, QUOTA_REACHED, SeatClaim, Seats
from services.launcher.settings import LauncherSettings
from tests.support.in_process_launcher import REPO
from tests.support.settings import settings_for

CLASSES = {"default": {}, "large": {"cost": 3}, "huge": {"cost": 9}}


@pytest.fixture(autouse=True)
async def _are_counted(context: ProcessContext) -> None:
    """It is known what runs: nothing."""
    await context.redis.set(context.keys("seats:counted"), "yes")


def seats_of(context: ProcessContext, total: int, **overrides: object) -> Seats:
    settings = {"seats_total": total, "resource_classes": CLASSES, "resource_class": "default", **overrides}
    return Seats(context, settings_for(LauncherSettings, settings))


def repo_of(name: str, quota: int | None = None, resource_class: str | None = None) -> ResolvedRepo:
    return REPO.updated(repo_url=f"https://example.org/{name}", quota=quota, resource_class=resource_class)


def server(number: int) -> Server:
    """A server that is asked for as the `number`th."""
    return Server(
        server_id=ServerId(f"server-{number:03d}"), hub_id="hub", user=f"user-{number}", server_name="",
        launch_ref="ref", state=ServerState.WAITING, image="image", repo_url="https://example.org/x",
        url="https://example.org/user/x/", created_at=1000.0 + number,
    )  # fmt: skip


async def ask(seats: Seats, number: int, repo: str = "a", quota: int | None = None, kind: str | None = None) -> int:
    return (await seats.take(server(number), repo_of(repo, quota, kind))).number


async def look(seats: Seats, *numbers: int) -> list[int]:
    """Where some servers stand now."""
    with_places = []
    for number in numbers:
        with seats.watch(f"server-{number:03d}", SeatPosition(SeatAnswer.UNKNOWN)) as watched:
            await seats.refresh()
            with_places.append(watched.position.number)
    return with_places


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
    assert (await seats.take(server(3), repo_of("a"))) == SeatPosition(3, QUOTA_REACHED)
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


@dataclass(kw_only=True)
class Model:
    """What the script should do, said in another way: it looks for the next one each time from the start."""

    total: int
    room: int
    seated: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    waiting: dict[int, tuple[str, int, int]] = field(default_factory=dict)

    def order(self) -> list[tuple[int, bool]]:
        """The waiting launches in order, each with whether it lacks only a free seat."""
        seats: dict[str, int] = {}
        servers: dict[str, int] = {}
        for repo, cost, _ in self.seated.values():
            seats[repo] = seats.get(repo, 0) + cost
            servers[repo] = servers.get(repo, 0) + 1
        remaining = dict(sorted(self.waiting.items()))
        out = []
        shut = set[str]()
        for may_start in (True, False):
            while remaining:
                first = {}  # of each repository, who came first
                for number, (repo, _, quota) in remaining.items():
                    if may_start and 0 < quota <= servers.get(repo, 0):
                        shut.add(repo)
                    if repo not in first and (not may_start or repo not in shut):
                        first[repo] = number
                if not first:
                    break
                number = min(first.values(), key=lambda candidate: (seats.get(remaining[candidate][0], 0), candidate))
                repo, cost, _ = remaining.pop(number)
                seats[repo] = seats.get(repo, 0) + cost
                servers[repo] = servers.get(repo, 0) + 1
                out.append((number, may_start))
        return out

    def admit(self) -> None:
        while order := self.order():
            number, may_start = order[0]
            free = self.total - sum(cost for _, cost, _ in self.seated.values())
            if not may_start or self.waiting[number][1] > free:
                return
            self.seated[number] = self.waiting.pop(number)

    def ask(self, number: int, repo: str, cost: int, quota: int) -> int:
        if cost > self.total:
            return SeatAnswer.NEVER
        self.waiting[number] = (repo, cost, quota)
        self.admit()
        if number in self.waiting and len(self.waiting) > self.room:
            del self.waiting[number]
            return SeatAnswer.FULL
        return self.place(number)

    def leave(self, number: int) -> None:
        self.seated.pop(number, None)
        self.waiting.pop(number, None)
        self.admit()

    def place(self, number: int) -> int:
        if number in self.seated:
            return 0
        return next(
            (at for at, (waiting_number, _) in enumerate(self.order(), 1) if waiting_number == number),
            SeatAnswer.UNKNOWN,
        )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.slow
async def test_whatever_comes_and_goes_the_seats_are_as_the_model_says(context: ProcessContext, seed: int) -> None:
    chance = random.Random(seed)
    model = Model(total=chance.randint(4, 9), room=chance.randint(4, 25))
    quotas = {repo: chance.choice([-1, -1, 0, 1, 2, 3]) for repo in "abcd"}
    seats = seats_of(context, model.total, seats_waiting_max=model.room)
    numbers = itertools.count()
    for _ in range(120):
        here = sorted(model.seated | model.waiting)
        if here and chance.random() < 0.4:
            number = chance.choice(here)
            model.leave(number)
            await seats.release(f"server-{number:03d}")
        else:
            number = next(numbers)
            repo = chance.choice("aaabcd")
            kind = chance.choice(["default", "default", "large"])
            expected = model.ask(number, repo, CLASSES[kind].get("cost", 1), quotas[repo])
            assert await ask(seats, number, repo, quotas[repo], kind) == expected
        here = sorted(model.seated | model.waiting)
        assert await look(seats, *here) == [model.place(number) for number in here]
        assert sum(cost for _, cost, _ in model.seated.values()) <= model.total


@pytest.mark.parametrize("many", [20, 200])
async def test_a_repository_with_many_waiting_and_one_with_few_get_the_seats_in_turn(
    context: ProcessContext, many: int
) -> None:
    seats = seats_of(context, 4)
    for number in range(many):
        await ask(seats, number, "popular")
    for number in range(many, many + 4):
        await ask(seats, number, "other")
    for number in range(4):
        await seats.release(f"server-{number:03d}")
    seated = sorted(await seats.holders())
    assert [int(name[-3:]) for name in seated] == [4, 5, many, many + 1]


@pytest.mark.parametrize(
    "raw",
    [
        "{", "[]", "3", "{}", '{"v": 2, "repo": "a", "cost": 1, "shared_with": ["b"]}', '{"repo": {"a": 1}}',
        '{"cost": "nan"}', '{"cost": 1.5}', '{"cost": -3}', '{"cost": 1e300}', '{"cost": {}, "quota": "nan"}',
    ],
)  # fmt: skip
async def test_a_damaged_holder_keeps_its_seat_and_keeps_nobody_from_theirs(context: ProcessContext, raw: str) -> None:
    seats = seats_of(context, 2)
    assert [await ask(seats, number) for number in range(4)] == [0, 0, 1, 2]
    await context.redis.hset(context.keys("{seats}:members"), "server-000", raw)
    await context.redis.hset(context.keys("{seats}:asked"), "server-002", raw)
    assert sorted(await seats.holders()) == ["server-000", "server-001"]

    await seats.release("server-001")
    assert (await look(seats, 2, 3)) == [0, 1]
    await seats.release("server-000")
    assert await look(seats, 3) == [0]
    await seats.release("server-002", "server-003")
    await seats.repair_totals()
    assert await seats.holders() == {}
    assert await ask(seats, 5) == 0


async def test_damaged_totals_keep_nobody_from_a_seat_and_are_repaired(context: ProcessContext) -> None:
    seats = seats_of(context, 3)
    held = context.keys("{seats}:held")
    assert await ask(seats, 0, quota=3) == 0
    names = [name.decode() for name in await context.redis.hkeys(held)]
    await context.redis.hset(held, mapping=dict.fromkeys([*names, "u:gone"], "damaged"))
    assert await ask(seats, 1, quota=3) == 0

    await seats.repair_totals()
    assert await context.redis.hget(held, "total") == b"2"
    assert not await context.redis.hexists(held, "u:gone")
    assert [await ask(seats, number, quota=3) for number in (2, 3)] == [0, 1]
    await context.redis.hset(held, "u:gone", "damaged")
    await seats.release("server-000")
    assert await look(seats, 3) == [0]
