"""One piece of work for all who ask for the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _LeaderLeftError(Exception):
    """The leader was cancelled before it knew the answer."""


class SingleFlight(Generic[T]):
    """The first to ask works; whoever asks meanwhile gets its result, or its exception.

    A cancelled leader hands over: exactly one of those who wait starts again, the others wait for that one.
    """

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        while (flight := self._flights.get(key)) is not None:
            try:
                return await asyncio.shield(flight)
            except _LeaderLeftError:
                continue
        return await self._lead(key, work)

    async def _lead(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        flight: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        outcome: BaseException = _LeaderLeftError()
        try:
            result = await work()
            flight.set_result(result)
            return result
        except Exception as error:
            outcome = error
            raise
        finally:
            del self._flights[key]
            if not flight.done():
                flight.set_exception(outcome)
                flight.exception()  # seen, even if nobody else waits
