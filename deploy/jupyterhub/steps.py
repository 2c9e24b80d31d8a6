"""The progress of a start, told by its spawner step by step."""

import asyncio
from collections.abc import AsyncIterator


class StepsMixin:
    """Yields each step of a start when it is taken; to be placed before a spawner in a class's bases."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._steps: list[str] = []
        self._step_taken = asyncio.Event()

    def begin_steps(self) -> None:
        """Forget the steps of an earlier start."""
        self._steps.clear()

    def step(self, message: str) -> None:
        """Tell whoever follows the start, and who comes later."""
        self._steps.append(message)
        taken, self._step_taken = self._step_taken, asyncio.Event()
        taken.set()

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield each step of the start when it is taken; the hub ends the iteration with the start."""
        told = 0
        while True:
            taken = self._step_taken
            while told < len(self._steps):
                told += 1
                yield {"progress": min(20 * told, 90), "message": self._steps[told - 1]}
            await taken.wait()
