"""The progress of a start, told by its spawner step by step."""

import asyncio
from collections.abc import AsyncIterator


class ProgressMixin:
    """Yields each step of a start when it is taken; to be placed before a spawner in a class's bases."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._messages: list[str] = []
        self._message_reported = asyncio.Event()

    def clear_progress(self) -> None:
        """Forget the steps of an earlier start."""
        self._messages.clear()

    def report_progress(self, message: str) -> None:
        """Tell whoever follows the start, and who comes later."""
        self._messages.append(message)
        taken, self._message_reported = self._message_reported, asyncio.Event()
        taken.set()

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield each step of the start when it is taken; the hub ends the iteration with the start."""
        told = 0
        while True:
            taken = self._message_reported
            while told < len(self._messages):
                told += 1
                yield {"progress": min(20 * told, 90), "message": self._messages[told - 1]}
            await taken.wait()
