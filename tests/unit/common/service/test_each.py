"""Steps for many items: one that fails keeps no other from its turn, and is not forgotten."""

import pytest
from structlog.testing import capture_logs

from services.common.redis.keys import Kind, Topic
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


async def test_the_log_names_the_step_and_each_item_that_failed() -> None:
    async def _restore(_item: object) -> None:
        raise ValueError("damaged")

    items = [Topic(Kind.SERVER, "one"), b"b:two", b"b:\xff", "gateway-three"]
    with capture_logs() as lines, pytest.raises(ValueError, match="damaged"):
        await for_each(items, _restore, unavailable=())
    assert {(line["event"], line["step"], line["error"]) for line in lines} == {
        ("item_failed", "restore", "ValueError: damaged")
    }
    assert [line["item"] for line in lines] == ["s:one", "b:two", "b:\N{REPLACEMENT CHARACTER}", "gateway-three"]
