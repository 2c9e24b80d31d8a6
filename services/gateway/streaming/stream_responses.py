"""Responses that follow a launch or a build, in either format."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from services.common.context import ProcessContext
from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind, Topic
from services.common.streams.entries import StreamEvent
from services.common.streams.event_format import PLAIN, EventFormat
from services.common.streams.positions import TOPIC_START, TopicPosition, resume_point
from services.common.streams.topic_stream import Listener, TopicStream
from services.gateway.launches.landing import landing_url
from services.gateway.launches.launches import Launches
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.event_formats import (
    FACADE,
    LOST_FACADE,
    LOST_V1,
    V1,
    facade_failure,
    launch_facts,
    sse,
)
from services.gateway.streaming.event_stream_response import EventStreamResponse
from services.gateway.streaming.launch_stream import EncodeTerminal, LaunchPosition, LaunchStream
from services.gateway.streaming.send_scheduler import SendScheduler

FACADE_CACHE = "no-cache, no-store"
"""BinderHub says `no-cache`, which lets a reply be stored; a `ready` event has its server's token."""


class StreamResponses:
    """Creates the responses that follow launches and builds."""

    def __init__(
        self, *, context: ProcessContext, launches: Launches, settings: GatewaySettings, scheduler: SendScheduler
    ) -> None:
        self._context = context
        self._launches = launches
        self._settings = settings
        self._scheduler = scheduler

    def v1(self, position: LaunchPosition) -> EventStreamResponse:
        """Return the stream of `GET /api/v1/launches/{id}/events`."""

        async def encode_terminal(event: StreamEvent, event_id: str) -> bytes:
            launch, server = await self._launches.outcome_of(position.launch_id)
            fields: dict[str, Any] = {name: value for name, value in event.items() if name not in {"terminal", "v"}}
            if server:
                fields |= {
                    "url": server.url,
                    "token": server.token,
                    "path": launch.options.path,
                    "expires": server.expires,
                    "idle_timeout_seconds": server.idle_timeout_seconds,
                    "open_url": landing_url(server.url or "", server.token or "", launch.options.path),
                    "message": f"server running at {server.url}\n",
                }

            return sse(fields, event_id)

        stream = self._stream(position, V1, encode_terminal, LOST_V1)
        return EventStreamResponse(stream, scheduler=self._scheduler, settings=self._settings)

    def facade(self, position: LaunchPosition) -> EventStreamResponse:
        """Return the stream of `GET /build/...`."""

        async def encode_terminal(_event: StreamEvent, event_id: str) -> bytes:
            launch, server = await self._launches.outcome_of(position.launch_id)
            if server is None:
                return sse(facade_failure(launch), event_id)
            return sse({"phase": "ready", **launch_facts(launch, server)}, event_id)

        return EventStreamResponse(
            self._stream(position, FACADE, encode_terminal, LOST_FACADE),
            scheduler=self._scheduler,
            settings=self._settings,
            headers={"Cache-Control": FACADE_CACHE},
            lingers=True,
            ends_on_drain=False,
        )

    def build(self, build_id: str, event_id: str) -> EventStreamResponse:
        """Return the stream of `GET /api/v1/builds/{id}/events`, from the `id:` of one of its events on."""
        topic = TopicStream(
            bus=self._context.bus,
            logs=self._context.logs,
            topic=Topic(Kind.BUILD, build_id),
            form=PLAIN,
            prefix=build_id,
            queue_positions=self._context.queue_positions,
        )

        stream = BuildStream(topic, resume_point(build_id, event_id) or TOPIC_START)
        return EventStreamResponse(stream, scheduler=self._scheduler, settings=self._settings)

    def _stream(
        self, position: LaunchPosition, form: EventFormat, encode_terminal: EncodeTerminal, lost_event: bytes
    ) -> LaunchStream:
        return LaunchStream(
            bus=self._context.bus,
            logs=self._context.logs,
            position=position,
            form=form,
            encode_terminal=encode_terminal,
            lost_event=lost_event,
            queue_positions=self._context.queue_positions,
        )


class BuildStream:
    """A build's own stream, from a position on."""

    def __init__(self, topic: TopicStream, position: TopicPosition) -> None:
        self._topic = topic
        self._position = position

    async def chunks(self, listener: Listener) -> AsyncGenerator[bytes | None, None]:
        """Yield chunks; yield None if the caller must wait for `notify` before it asks for more."""
        async with contextlib.aclosing(self._topic.chunks(listener, self._position)) as chunks:
            async for chunk in chunks:
                yield chunk


def refused_stream(error: BinderyError) -> Response:
    """Return BinderHub's reply to a launch that it refuses: 200, and one `failed` event that carries the status."""
    event: dict[str, Any] = {"phase": "failed"}
    if not error.has_code("unknown_provider"):
        event["status_code"] = error.kind.status
    event["message"] = f"{error.extra.get('facade') or error.detail}\n"

    # Without a charset, as BinderHub's: Starlette would add one to a media type.
    headers = {"Content-Type": "text/event-stream", "Cache-Control": FACADE_CACHE}
    return Response(sse(event), headers=headers)
