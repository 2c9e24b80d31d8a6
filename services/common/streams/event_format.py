"""Formats of event streams: how one event becomes bytes, and the format of a build's own stream."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from services.common.streams.entries import StreamEvent

Render = Callable[[StreamEvent, bool], bytes | None]
"""Returns the bytes of one event's `data:`, or None if the format leaves the event out.

The flag says whether the event's topic is spliced into another.
"""

INTERNAL_FIELDS = frozenset({"terminal", "opens", "v"})
"""Fields of events that no client is sent."""


@dataclass(frozen=True)
class EventFormat:
    """A way to write events for clients. Entries keep what `render` returned under `name`, for all followers."""

    name: str
    render: Render


def render_plain(event: StreamEvent, _is_spliced: bool) -> bytes:
    """Return an event as it is, in the format of v1."""
    return json.dumps({name: value for name, value in event.items() if name not in INTERNAL_FIELDS}).encode()


PLAIN = EventFormat("build", render_plain)
"""The format of a build's own stream."""


def block(event_id: bytes, data: bytes | None) -> bytes:
    """Return one block of an event stream, from its `id:` line and its data.

    An event that the format leaves out has its id alone, so that clients resume behind it.
    """
    if data is None:
        return b"%s\n" % event_id
    return b"%sdata: %s\n\n" % (event_id, data)
