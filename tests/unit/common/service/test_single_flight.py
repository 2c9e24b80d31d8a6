"""One piece of work for concurrent callers, also if the first of them is cancelled."""

import asyncio

import pytest

from services.common.service.single_flight import SingleFlight


class Work:
    """Counts its starts; ends when told to."""

    def __init__(self) -> None:
        self.starts = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> str:
        self.starts += 1
        await self.may_end.wait()
        return f"answer {self.starts}"


async def until_waiting() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_who_ask_at_once_get_one_answer() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    tasks = [asyncio.create_task(flights.run("a", work)) for _ in range(5)]
    await until_waiting()
    work.may_end.set()
    assert await asyncio.gather(*tasks) == ["answer 1"] * 5
    assert len(flights) == 0
    assert await flights.run("a", work) == "answer 2"


async def test_other_keys_do_not_wait() -> None:
    flights: SingleFlight[str] = SingleFlight()
    slow = Work()
    quick = Work()
    quick.may_end.set()
    task = asyncio.create_task(flights.run("a", slow))
    assert await flights.run("b", quick) == "answer 1"
    slow.may_end.set()
    await task


async def test_a_failure_is_everyones() -> None:
    flights: SingleFlight[str] = SingleFlight()
    started = asyncio.Event()

    async def fail() -> str:
        started.set()
        await until_waiting()
        raise ValueError("no")

    tasks = [asyncio.create_task(flights.run("a", fail)) for _ in range(3)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    assert len(flights) == 0


async def test_a_leader_that_leaves_hands_over_to_one_who_waits() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    leader = asyncio.create_task(flights.run("a", work))
    await until_waiting()
    waiting = [asyncio.create_task(flights.run("a", work)) for _ in range(4)]
    await until_waiting()
    leader.cancel()
    await until_waiting()
    assert work.starts == 2
    work.may_end.set()
    assert await asyncio.gather(*waiting) == ["answer 2"] * 4
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_one_who_waits_may_leave_without_harm() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    leader = asyncio.create_task(flights.run("a", work))
    await until_waiting()
    waiting = asyncio.create_task(flights.run("a", work))
    await until_waiting()
    waiting.cancel()
    await until_waiting()
    work.may_end.set()
    assert await leader == "answer 1"
    assert waiting.cancelled()
