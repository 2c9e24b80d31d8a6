"""Seats compared with a model that is written in another way, under random requests."""

import itertools
import random
from dataclasses import dataclass, field

import pytest

from services.common.context import ProcessContext
from services.launcher.seats.positions import SeatAnswer
from tests.support.sample_seats import CLASSES, ask, look, seats_of

pytestmark = pytest.mark.usefixtures("are_counted")


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
