"""Entries of an event stream: batches of events, as Redis stores them and as followers read them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

from services.common.models import RECORD_VERSION, Event, Phase, Problem
from services.common.streams.positions import position_key


class OpenedTopic(TypedDict, total=False):
    """A topic that followers of a launch read next: `TopicRef`, as it is stored."""

    kind: str
    """The value of a `Kind`."""
    id: str
    after: str


class StreamEvent(TypedDict, total=False):
    """An event as a stream stores it: `Event`, with the extra fields that some writers add.

    It is the parsed JSON itself, since thousands of followers share it and none needs a model.
    """

    v: int
    phase: str
    message: str
    state: str
    terminal: bool
    """Whether the topic ends with this event."""
    opens: OpenedTopic
    image_name: str
    queue: Mapping[str, object]
    """A `Queue`, as JSON has it."""
    error: Mapping[str, object]
    """A `Problem`, as JSON has it."""
    expires: float | None
    """When a server that is ready will be removed, in seconds since the epoch."""
    changed: bool
    """Whether the record of a server has more than the event says."""
    lines: int
    """Number of lines that are missing, in a gap."""


@dataclass(kw_only=True)
class Entry:
    """One entry of a stream: a batch of events. `lines` and `bytes_before` count what the stream held before it."""

    id: str
    number: int
    lines: int
    bytes_before: int
    payload: bytes
    rendered: dict[str, list[bytes]] = field(default_factory=dict, repr=False)
    """The bytes of the events by format, made once for all followers."""

    @classmethod
    def first(cls, position: str, payload: bytes) -> "Entry":
        """Return the entry that a topic begins with."""
        return cls(id=position, number=1, lines=0, bytes_before=0, payload=payload)

    @classmethod
    def stored(cls, raw: tuple[bytes, dict[bytes, bytes]]) -> "Entry":
        """Return an entry as XRANGE answers it."""
        entry_id, fields = raw
        return cls(
            id=entry_id.decode(),
            number=int(fields[b"n"]),
            lines=int(fields[b"l"]),
            bytes_before=int(fields[b"b"]),
            payload=fields[b"d"],
        )

    @cached_property
    def events(self) -> list[StreamEvent]:
        """The events, parsed once for all followers."""
        events: list[StreamEvent] = json.loads(self.payload)
        return [event for event in events if isinstance(event, dict)]

    @cached_property
    def is_terminal(self) -> bool:
        """Whether the topic ends with this entry."""
        return b'"terminal":true' in self.payload and any(event.get("terminal") for event in self.events)

    @property
    def is_first(self) -> bool:
        """Whether the topic began with this entry, which its record's creation wrote."""
        return self.number == 1

    @cached_property
    def key(self) -> tuple[int, int]:
        """The id as a pair that compares in stream order."""
        return position_key(self.id)

    def already_delivered(self, lines: int) -> int:
        """Return how many of this entry's events a follower with `lines` lines already has.

        The terminal event never counts: it must arrive, since nobody reads beyond it.
        """
        return max(0, min(len(self.events) - self.is_terminal, lines - self.lines))


def failed_event(error: Problem) -> StreamEvent:
    """Return the event by which followers are told of an error that no stream has."""
    return {
        "phase": Phase.FAILED,
        "message": f"{error.detail}\n",
        "state": "failed",
        "error": error.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
    }


def encode_events(events: Sequence[Event | StreamEvent]) -> str:
    """Return the payload of a stream entry: the events as a JSON list, each with the version of its form."""
    return json.dumps([{"v": RECORD_VERSION, **_as_json(event)} for event in events], separators=(",", ":"))


def _as_json(event: Event | StreamEvent) -> Mapping[str, object]:
    if isinstance(event, Event):
        return event.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"phase": event.phase}
    return event
