"""Opening a launch's stream for a client, in either format."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from services.common.context import ProcessContext
from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind, Topic
from services.common.streams.entries import STREAM_START
from services.common.streams.topic_stream import Listener, TopicStream, render_plain, resume_point
from services.gateway.launches.landing import landing_url
from services.gateway.launches.launches import Launches
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.event_formats import facade_failure, launch_facts, render_facade, render_v1, sse
from services.gateway.streaming.event_stream_response import EventStreamResponse
from services.gateway.streaming.launch_stream import Chunk, LaunchStream, Position
from services.gateway.streaming.send_scheduler import SendScheduler

FACADE_CACHE = "no-cache, no-store"
"""BinderHub says `no-cache`, which lets an answer be kept; a `ready` event has its server's token."""


class StreamResponses:
    """Makes the responses that follow launches."""

    def __init__(
        self, context: ProcessContext, launches: Launches, settings: GatewaySettings, scheduler: SendScheduler
    ) -> None:
        self._context, self._launches, self._settings, self._scheduler = context, launches, settings, scheduler

    def _stream(self, position: Position, form: str) -> LaunchStream:
        render = render_v1 if form == "v1" else render_facade
        return LaunchStream(
            self._context.bus, self._context.logs, position, form, render, self._context.queue_positions
        )

    def v1(self, position: Position) -> EventStreamResponse:
        """The stream of `GET /api/v1/launches/{id}/events`."""

        async def terminal(event: dict[str, Any], event_id: str) -> bytes:
            launch, server = await self._launches.outcome_of(position.launch_id)
            shown = {name: value for name, value in event.items() if name not in {"terminal", "v"}}
            if server:
                shown |= {
                    "url": server.url,
                    "token": server.token,
                    "path": launch.options.path,
                    "expires": server.expires,
                    "idle_timeout_seconds": server.idle_timeout_seconds,
                }
                shown |= {"open_url": landing_url(server.url or "", server.token or "", launch.options.path)}
                shown |= {"message": f"server running at {server.url}\n"}
            return sse(shown, event_id)

        return EventStreamResponse(self._stream(position, "v1"), terminal, self._scheduler, self._settings)

    def build(self, build_id: str, event_id: str) -> EventStreamResponse:
        """The stream of `GET /api/v1/builds/{id}/events`, behind an `id:` of it."""
        context = self._context
        topic = TopicStream(
            context.bus,
            context.logs,
            Topic(Kind.BUILD, build_id),
            "build",
            render_plain,
            prefix=build_id,
            places=context.queue_positions,
        )
        return EventStreamResponse(
            BuildStream(topic, resume_point(build_id, event_id)), _untold, self._scheduler, self._settings
        )

    def facade(self, position: Position) -> EventStreamResponse:
        """The stream of `GET /build/...`."""

        async def terminal(_event: dict[str, Any], event_id: str) -> bytes:
            launch, server = await self._launches.outcome_of(position.launch_id)
            if server is None:
                return sse(facade_failure(launch), event_id)
            return sse({"phase": "ready", **launch_facts(launch, server)}, event_id)

        return EventStreamResponse(
            self._stream(position, "facade"), terminal, self._scheduler, self._settings,
            headers={"Cache-Control": FACADE_CACHE}, lingers=True, ends_on_drain=False,
        )  # fmt: skip


class BuildStream:
    """A build's own stream, for one client."""

    def __init__(self, topic: TopicStream, place: tuple[str, int] | None) -> None:
        self._topic, self._place = topic, place or (STREAM_START, 0)

    async def chunks(self, listener: Listener) -> AsyncGenerator[Chunk | None, None]:
        """What there is, piece by piece; None when there is nothing more yet."""
        async with contextlib.aclosing(self._topic.chunks(listener, *self._place)) as chunks:
            async for chunk in chunks:
                yield Chunk(chunk) if chunk is not None else None


async def _untold(_event: dict[str, Any], _event_id: str) -> bytes:
    """A build's end is an event like the others: nothing in it differs from client to client."""
    return b""


def refused_stream(error: BinderyError) -> Response:
    """BinderHub's reply to what it does not begin: 200, and one `failed` event that carries the status."""
    message = error.extra.get("facade") or error.detail
    event: dict[str, Any] = {"phase": "failed", "message": f"{message}\n"}
    if not error.has_code("unknown_provider"):
        event = {"phase": "failed", "status_code": error.kind.status, "message": f"{message}\n"}
    # As BinderHub's: without a charset, which Starlette would add to a media type.
    headers = {"Content-Type": "text/event-stream", "Cache-Control": FACADE_CACHE}
    return Response(sse(event), headers=headers)
