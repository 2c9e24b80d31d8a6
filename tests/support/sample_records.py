"""Records for tests of what is stored in Redis: one launch, its events, and a Redis that loses its last second."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchId, LaunchState, Phase, Spec
from services.common.records.leases import OnAdopt, ServiceMember
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic, service_of
from services.common.service.loops import background_tasks
from services.common.streams.entries import Entry
from services.common.streams.log_store import stream_entries
from tests.support.valkey import member_of, trust_leases

TOPIC = Topic(Kind.LAUNCH, "one")
"""The record that `created` creates."""


def launch(state: LaunchState = LaunchState.RESOLVING) -> Launch:
    """Return the launch that the record is about."""
    return Launch(
        launch_id=LaunchId("one"), launch_ref="ref", spec=Spec(provider="git", spec="x"), principal="anon:x",
        state=state, created_at=time.time(),
    )  # fmt: skip


def message_event(message: str) -> Event:
    """Return an event of one line."""
    return Event(phase=Phase.BUILDING, message=message)


async def list_process(context: ProcessContext, process: str) -> str:
    """List a process that has no lease, so that it may own records, and return its name."""
    await context.redis.sadd(context.keys.processes(service_of(process)), process)
    return process


async def create_record(context: ProcessContext, process: str = "gateway-a") -> OwnedRecord:
    """Create the record, with the event "first", and own it."""
    await list_process(context, process)
    record, _ = await context.records.create(
        TOPIC, launch(), message_event("first"), process=process, fields={"request": "kept"}
    )
    assert isinstance(record, OwnedRecord)
    return record


async def entries_of(context: ProcessContext) -> list[Entry]:
    """Return the entries of the record's stream."""
    return await stream_entries(context.redis, context.keys, TOPIC)


async def messages_of(context: ProcessContext) -> list[str]:
    """Return the messages of all events in the record's stream."""
    return [event["message"] for entry in await entries_of(context) for event in entry.events]


class LosesItsLastSecond:
    """A Redis that is killed and comes back: it has the record as it was at `keep`."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._keys = [context.keys.record(TOPIC), context.keys.events(TOPIC)]
        self._dumps: list[bytes] = []

    async def keep(self) -> None:
        """Save the record to disk."""
        self._dumps = [await self._context.redis.dump(key) for key in self._keys]

    async def come_back(self) -> None:
        """Put the record back as it was saved."""
        for key, dump in zip(self._keys, self._dumps, strict=True):
            await self._context.redis.restore(key, 0, dump, replace=True)


class LivingProcess:
    """A process of a service that holds a lease for as long as the block; entering it gives its name."""

    def __init__(self, context: ProcessContext, name: str) -> None:
        self._member = member_of(context, name)

    async def __aenter__(self) -> str:
        await self._member.take_lease()
        return self._member.process

    async def __aexit__(self, *_: object) -> None:
        await self._member.hand_over()


@asynccontextmanager
async def living(context: ProcessContext, *, on_adopt: OnAdopt | None = None) -> AsyncIterator[ServiceMember]:
    """Run a process that renews, adopts and sweeps."""
    member = member_of(context)
    await member.take_lease()
    trust_leases(member)
    await member.start(on_adopt=on_adopt)
    async with background_tasks(member.run()):
        yield member


async def fields_of(context: ProcessContext, *names: str) -> list[str]:
    """Return fields of the record `TOPIC` as Redis holds them."""
    stored = await context.records.read(TOPIC)
    assert stored
    return [stored.get(name) for name in names]
