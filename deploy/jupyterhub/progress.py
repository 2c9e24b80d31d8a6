"""Progress of a start, reported by the spawner step by step."""

import asyncio
from collections.abc import AsyncIterator


class ProgressMixin:
    """Yields each message of a start when it is reported. Place it before a spawner in a class's bases."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._messages: list[str] = []
        self._message_reported = asyncio.Event()

    def clear_progress(self) -> None:
        """Drop the messages of an earlier start."""
        self._messages.clear()

    def report_progress(self, message: str) -> None:
        """Send a message to all followers of the start, also later ones."""
        self._messages.append(message)
        reported = self._message_reported
        self._message_reported = asyncio.Event()
        reported.set()

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield every message of the start as the hub's progress; the hub ends the iteration with the start."""
        sent = 0
        while True:
            reported = self._message_reported
            while sent < len(self._messages):
                sent += 1
                yield {"progress": min(20 * sent, 90), "message": self._messages[sent - 1]}
            await reported.wait()
