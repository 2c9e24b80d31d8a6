"""Requests to give up a noun, from anybody to the process that works on it: a field of its record, and a message."""

import asyncio
import contextlib

from services.common.records.records import Records
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.service.tasks import sleep_unless_cancelled

ABANDONED = "given_up"
"""Field of a server's record: its launch ended without it, so it goes even if it is ready."""


class CancelRequests:
    """The requests to give up nouns of one kind; `channel` is the one that wakes the nouns' stage."""

    def __init__(self, records: Records, kind: Kind, channel: str) -> None:
        self._records = records
        self._kind = kind
        self._channel = channel
        self._expected: dict[str, asyncio.Event] = {}

    def __contains__(self, name: str) -> bool:
        """Whether this process works on a noun."""
        return name in self._expected

    def register(self, name: str, *, is_requested: bool = False) -> asyncio.Event:
        """This process works on a noun from now on: the event is set when it is to give that up."""
        event = self._expected[name] = asyncio.Event()
        if is_requested:
            event.set()
        return event

    def unregister(self, name: str, event: asyncio.Event) -> None:
        """This process works no more on a noun, unless it has begun to anew."""
        if self._expected.get(name) is event:
            del self._expected[name]

    async def request(self, name: str) -> bool:
        """Ask for a noun to be given up, by whoever works on it. False where there is no such noun (any more)."""
        known = await self._records.set_field(Topic(self._kind, name), "cancel", "1")
        if known:
            await self.notify(name)
        return known

    async def request_even_if_ready(self, name: str) -> bool:
        """As `request`, for a server that nobody is to get: it goes also where it is ready already, or becomes so."""
        await self._records.set_field(Topic(self._kind, name), ABANDONED, "1")
        return await self.request(name)

    async def notify(self, name: str) -> None:
        """Wake whoever works on a noun whose record says already that it is to be given up."""
        await self._records.redis.publish(self._channel, f"cancel {name}")

    def on_message(self, message: bytes) -> None:
        """Something on the channel: perhaps that a noun of this process is to be given up."""
        word, _, name = message.decode().partition(" ")
        if word == "cancel" and (event := self._expected.get(name)):
            event.set()

    async def poll(self) -> None:
        """Look for requests whose message was missed, until cancelled."""
        while True:
            await sleep_unless_cancelled(self._records.reread_seconds)
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                for name, event in list(self._expected.items()):
                    record = self._records.keys.record(Topic(self._kind, name))
                    if await self._records.redis.hexists(record, "cancel"):
                        event.set()
