"""Requests to abort work on a build, launch or server, sent from any process to the one that owns it.

A request is a field of the record, so that it outlives every process, and a message that makes it take effect at once.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from services.common.records.records import Records
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.redis.wrong_type import execute_each
from services.common.service.loops import run_forever
from services.common.service.tasks import wait_and_clear

ABANDONED = "given_up"
"""Field of a server's record: its launch ended without it, so it is removed even if it is ready.

The value is `abandoned_by` an owner of the launch: a later one may have gone on with the launch, to that same server.
"""


def abandoned_by(launch_epoch: int | None) -> str:
    """Return the value of the field `ABANDONED` that an owner of the launch sets; None stands for any owner."""
    return "1" if launch_epoch is None else f"epoch {launch_epoch}"


def is_abandoned(value: str, launch_epoch: int) -> bool:
    """Return whether a field `ABANDONED` counts now that the launch has an epoch, which is 0 if its record is lost."""
    _, _, epoch = value.partition("epoch ")
    return bool(value) and not (epoch.isdigit() and int(epoch) < launch_epoch)


class CancelRequests:
    """Requests to abort entities of one kind; `channel` is the one that wakes the service that works on them."""

    def __init__(self, records: Records, kind: Kind, channel: str) -> None:
        self._records = records
        self._kind = kind
        self._channel = channel
        self._registered: dict[str, asyncio.Event] = {}
        self._adopted: dict[str, asyncio.Event] = {}
        """Those whose record was read when this process adopted it, and not since."""
        self._has_adopted = asyncio.Event()

    def __contains__(self, name: str) -> bool:
        """Return whether this process works on an entity."""
        return name in self._registered

    # For the process that does the work

    def register(self, name: str, *, is_requested: bool = False) -> asyncio.Event:
        """Return an event that is set when this process must abort its work on an entity, which begins now.

        `is_requested`: whether its record held a request when it was adopted. A later one is looked for by `poll`, as
        its message may have come before this call.
        """
        requested = asyncio.Event()
        self._registered[name] = requested
        if is_requested:
            requested.set()
        elif self._records.is_adopted(Topic(self._kind, name)):
            self._adopted[name] = requested
            self._has_adopted.set()
        return requested

    def unregister(self, name: str, requested: asyncio.Event) -> None:
        """End the work that `requested` was returned for; later work on the same entity stays registered."""
        if self._registered.get(name) is requested:
            del self._registered[name]
            self._adopted.pop(name, None)

    def on_message(self, message: bytes) -> None:
        """Set the event of an entity if a message on the channel is a request to abort it."""
        word, _, name = message.decode().partition(" ")
        requested = self._registered.get(name)
        if word == "cancel" and requested:
            requested.set()

    async def poll(self) -> None:
        """Look for requests whose message was lost, until cancelled: whenever that may be so, and once in a while.

        Look for those of an adopted entity as soon as it is registered.
        """
        bus = self._records.bus
        is_due = asyncio.Event()
        bus.on_loss(is_due.set)
        wait = partial(wait_and_clear, is_due, seconds=bus.reread_seconds)
        loops = [
            run_forever(self._look, name="cancel_requests", wait=wait, unavailable=REDIS_UNAVAILABLE),
            run_forever(
                self._look_at_adopted,
                name="cancel_requests_adopted",
                wait=self._has_adopted.wait,
                unavailable=REDIS_UNAVAILABLE,
            ),
        ]
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def _look(self) -> None:
        """Look for requests to abort any entity on which this process works, by one round trip."""
        await self._look_at(dict(self._registered))

    async def _look_at_adopted(self) -> None:
        """Look for requests to abort entities that were adopted since the last look."""
        self._has_adopted.clear()
        adopted = dict(self._adopted)
        await self._look_at(adopted)
        for name, requested in adopted.items():
            if self._adopted.get(name) is requested:
                del self._adopted[name]

    async def _look_at(self, registered: Mapping[str, asyncio.Event]) -> None:
        if not registered:
            return

        async with self._records.redis.pipeline(transaction=False) as pipe:
            for name in registered:
                pipe.hexists(self._records.keys.record(Topic(self._kind, name)), "cancel")
            answers = await execute_each(pipe)

        for requested, is_requested in zip(registered.values(), answers, strict=True):
            if is_requested:
                requested.set()

    # For any process

    async def request(self, name: str) -> bool:
        """Request that an entity be aborted. Return False if it has no record (any more)."""
        exists = await self._records.set_field(Topic(self._kind, name), "cancel", "1")
        if exists:
            await self.notify(name)
        return exists

    async def request_even_if_ready(self, name: str, launch_id: str, launch_epoch: int) -> bool:
        """Request that a server be aborted, and removed if it is ready or becomes so: no user is to get it.

        Return False, and request nothing, if its launch was handed to another owner since it had `launch_epoch`.
        """
        if await self._records.has_later_owner(Topic(Kind.LAUNCH, launch_id), launch_epoch):
            return False
        await self._records.set_field(Topic(self._kind, name), ABANDONED, abandoned_by(launch_epoch))
        return await self.request(name)

    async def notify(self, name: str) -> None:
        """Wake the owner of an entity whose record holds a request already."""
        await self._records.redis.publish(self._channel, f"cancel {name}")
