"""Damaged values beside the seats: nobody is kept from a seat by them."""

import pytest

from services.common.context import ProcessContext
from tests.support.sample_seats import ask, look, seats_of

pytestmark = pytest.mark.usefixtures("are_counted")


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
