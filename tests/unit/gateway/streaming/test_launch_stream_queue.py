"""Followers of a queued build get its position, between the stored events and without storing it."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import cast

from services.common.context import ProcessContext
from services.common.models import Phase
from services.common.streams.entries import StreamEvent
from services.common.streams.event_format import EventFormat
from services.common.streams.queue_positions import QueuePosition, QueuePositions, WatchedBuild
from services.gateway.streaming.event_formats import render_v1
from services.gateway.streaming.launch_stream import LaunchPosition
from tests.support.launch_followers import Follower, a_build, a_launch, follow_launch, log_event, opens, the_end
from tests.support.polling import until


class Queueing:
    """The places of a queue that a test tells."""

    def __init__(self) -> None:
        self.watched = WatchedBuild()
        self.watchers = 0

    @contextlib.contextmanager
    def watch(self, _build_id: str, on_change: Callable[[], None]) -> Iterator[WatchedBuild]:
        self.watched.listeners.add(on_change)
        self.watchers += 1
        yield self.watched
        self.watched.listeners.discard(on_change)
        self.watchers -= 1

    def moves(self, place: QueuePosition | None) -> None:
        self.watched.queue_position = place
        for listener in list(self.watched.listeners):
            listener()


def place(position: int, length: int = 9, reason: str = "Busy.") -> QueuePosition:
    return QueuePosition(position=position, length=length, reason=reason)


async def waiting(
    context: ProcessContext, queue: Queueing
) -> tuple[list[Follower], list[asyncio.Task[Follower]], list[bytes]]:
    """Three followers of a launch whose build is queued, and every chunk about places that they get."""
    followers = [Follower() for _ in range(3)]
    chunks = list[bytes]()

    def render(event: StreamEvent, spliced: bool) -> bytes | None:
        if "queue" in event:
            chunks.append(json.dumps(event).encode())
        return render_v1(event, spliced)

    following = [
        asyncio.create_task(
            follower.follow(
                context,
                LaunchPosition(launch_id="one"),
                form=EventFormat("v1", render),
                queue_positions=cast("QueuePositions", queue),
            )
        )
        for follower in followers
    ]
    return followers, following, chunks


def positions_in(follower: Follower) -> list[int]:
    return [event["queue"]["position"] for event in follower.events if event.get("queue")]


async def test_a_queued_builds_place_is_told_when_it_changes_in_bytes_made_once_and_without_an_id(
    context: ProcessContext,
) -> None:
    launch = await a_launch(context)
    queue = Queueing()
    await launch.write(opens())
    build = await a_build(context)
    queue.moves(place(3))
    followers, following, rendered = await waiting(context, queue)
    await until(lambda: all(positions_in(follower) == [3] for follower in followers))
    queue.moves(place(3, length=20))  # others have come behind it
    queue.moves(place(2))
    await until(lambda: all(positions_in(follower) == [3, 2] for follower in followers))
    queue.moves(place(2, reason="No builder is running."))
    await until(lambda: all(positions_in(follower) == [3, 2, 2] for follower in followers))
    assert len(rendered) == 3
    assert queue.watchers == 3
    await build.write(log_event("b1"))
    await until(lambda: all("b1" in follower.messages for follower in followers))
    assert queue.watchers == 0  # a build that runs is in no queue
    await build.write(log_event("built", Phase.BUILT, terminal=True), final=True)
    await launch.write(the_end(), final=True)
    for follower in await asyncio.gather(*following):
        assert [event for event in follower.messages if not event.startswith("Waiting")] == [
            "begin", "opens", "b0", "b1", "end",
        ]  # fmt: skip
        before_the_end = follower.ids[:-1]
        with_id = [at for at in before_the_end if at.startswith("one~")]
        assert len(before_the_end) - len(with_id) == 3  # the blocks about places begin with their data
        rests = [(await follow_launch(context, at)).messages for at in with_id]
        assert [len(rest) for rest in rests] == [4, 3, 2, 1, 1]


async def test_a_launch_that_leaves_the_queue_by_being_cancelled_watches_it_no_more(context: ProcessContext) -> None:
    launch = await a_launch(context)
    queue = Queueing()
    await launch.write(opens())
    await a_build(context)
    queue.moves(place(1))
    followers, following, _ = await waiting(context, queue)
    await until(lambda: all(positions_in(follower) == [1] for follower in followers))
    await launch.write(the_end("cancelled", Phase.CANCELLED), final=True)
    await asyncio.gather(*following)
    await until(lambda: queue.watchers == 0)
