"""Steps for many items: one that fails keeps no other from its turn, and is not forgotten."""

import pytest

from services.common.service.each import for_each


async def test_every_item_has_its_turn_and_the_last_error_is_raised() -> None:
    begun: list[int] = []

    async def step(number: int) -> None:
        begun.append(number)
        if number % 2:
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^3$"):
        await for_each(range(5), step, unavailable=(ConnectionError,))
    assert begun == [0, 1, 2, 3, 4]


async def test_an_outage_ends_the_round_at_once() -> None:
    begun: list[int] = []

    async def step(number: int) -> None:
        begun.append(number)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await for_each(range(5), step, unavailable=(ConnectionError,))
    assert begun == [0]
