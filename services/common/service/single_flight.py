"""One run of a piece of work, shared by all concurrent callers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _LeaderLeftError(Exception):
    """The leader was cancelled before it had a result."""


class SingleFlight(Generic[T]):
    """Runs work once for all concurrent calls with the same key.

    The first caller, the leader, does the work; the others wait and get its result or its exception. If the leader is
    cancelled, exactly one of the waiting callers starts the work again, and the others wait for that one.
    """

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, or of the run under `key` that is in progress."""
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
