"""A launch and its build as records, and a follower that reads the launch's stream as a client does."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from services.common.context import ProcessContext
from services.common.models import Build, BuildId, BuildState, Event, Launch, LaunchId, LaunchState, Phase, Spec
from services.common.models.event import TopicRef
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.streams.entries import StreamEvent
from services.common.streams.event_format import EventFormat
from services.common.streams.positions import STREAM_START
from services.common.streams.queue_positions import QueuePositions
from services.gateway.streaming.event_formats import LOST_V1, V1, sse
from services.gateway.streaming.launch_stream import LaunchPosition, LaunchStream
from tests.support.sample_records import list_process

LAUNCH = Topic(Kind.LAUNCH, "one")
BUILD_ID = "a" * 24 + "-1"


@dataclass(kw_only=True)
class Follower:
    """Reads a launch's stream; keeps ids, and events as a client would have them."""

    ids: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    has_news: bool = True
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        self.has_news = True
        self.more.set()

    @property
    def messages(self) -> list[str]:
        return [event.get("message", "").strip() for event in self.events]

    async def follow(
        self,
        context: ProcessContext,
        position: LaunchPosition,
        *,
        form: EventFormat = V1,
        queue_positions: QueuePositions | None = None,
        until_quiet: bool = False,
    ) -> "Follower":
        """Read to the end, or until there is nothing more for now."""
        stream = LaunchStream(
            bus=context.bus,
            logs=context.logs,
            position=position,
            form=form,
            encode_terminal=encode_as_it_is,
            lost_event=LOST_V1,
            queue_positions=queue_positions,
        )
        async with asyncio.timeout(60):
            async for chunk in stream.chunks(self):
                if chunk is not None:
                    self._take(chunk.decode())
                elif until_quiet:
                    break
                elif not self.has_news:
                    self.more.clear()
                    await self.more.wait()
        return self

    def _take(self, chunk: str) -> None:
        for block in filter(None, chunk.split("\n\n")):
            lines = block.split("\n")
            self.ids.append(lines[0].removeprefix("id: "))
            if lines[-1].startswith("data: "):
                self.events.append(json.loads(lines[-1].removeprefix("data: ")))


async def encode_as_it_is(event: StreamEvent, event_id: str) -> bytes:
    """Return the terminal event for every client alike."""
    return sse(event, event_id)


async def follow_launch(context: ProcessContext, text: str = "", *, until_quiet: bool = False) -> Follower:
    position = LaunchPosition.parse(text) if text else LaunchPosition(launch_id="one")
    assert position
    return await Follower().follow(context, position, until_quiet=until_quiet)


def log_event(message: str, phase: Phase = Phase.BUILDING, **more: Any) -> Event:
    return Event(phase=phase, message=f"{message}\n", **more)


def opens(build_id: str = BUILD_ID) -> Event:
    return log_event("opens", Phase.WAITING, opens=TopicRef(kind=Kind.BUILD, id=build_id, after=STREAM_START))


async def a_launch(context: ProcessContext) -> OwnedRecord:
    launch = Launch(
        launch_id=LaunchId("one"), launch_ref="ref", spec=Spec(provider="git", spec="x"), principal="anon:x",
        state=LaunchState.RESOLVING, created_at=time.time(),
    )  # fmt: skip
    record, _ = await context.records.create(
        LAUNCH, launch, log_event("begin", Phase.RESOLVING), process=await list_process(context, "gateway-a")
    )
    assert isinstance(record, OwnedRecord)
    return record


async def a_build(context: ProcessContext, build_id: str = BUILD_ID) -> OwnedRecord:
    build = Build(
        build_id=BuildId(build_id), image="i:a", repo_url="https://example.org/r", ref="a", state=BuildState.RUNNING,
        created_at=time.time(),
    )  # fmt: skip
    record, _ = await context.records.create(
        Topic(Kind.BUILD, build_id), build, log_event("b0"), process=await list_process(context, "builder-a")
    )
    assert isinstance(record, OwnedRecord)
    return record


def the_end(message: str = "end", phase: Phase = Phase.READY) -> Event:
    return log_event(message, phase, terminal=True)


async def a_whole_launch(context: ProcessContext) -> None:
    """Write a launch with a build, each in entries of one event and of several."""
    launch = await a_launch(context)
    build = await a_build(context)
    await launch.write(log_event("l1"), log_event("l2"), opens(), log_event("l3"))
    await build.write(log_event("b1"), log_event("b2"), log_event("b3"))
    await build.write(log_event("built", Phase.BUILT, terminal=True), final=True)
    await launch.write(log_event("l4"))
    await launch.write(log_event("l5"), the_end(), final=True)


WHOLE = ["begin", "l1", "l2", "opens", "b0", "b1", "b2", "b3", "l3", "l4", "l5", "end"]
