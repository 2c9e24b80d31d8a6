"""Entries of an event stream, and their positions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from services.common.models import RECORD_VERSION, Event

STREAM_START = "0-0"


def position_key(position: str) -> tuple[int, int]:
    """A stream position as something that compares."""
    ms, _, seq = position.partition("-")
    return int(ms or 0), int(seq or 0)


@dataclass
class Entry:
    """One entry of a stream: a batch of events. `lines` and `bytes_before` count what came before it."""

    id: str
    number: int
    lines: int
    bytes_before: int
    payload: bytes
    rendered: dict[str, list[bytes]] = field(default_factory=dict, repr=False)

    @classmethod
    def first(cls, position: str, payload: bytes) -> "Entry":
        return cls(position, 1, 0, 0, payload)

    @classmethod
    def stored(cls, raw: tuple[bytes, dict[bytes, bytes]]) -> "Entry":
        values = raw[1]
        return cls(raw[0].decode(), int(values[b"n"]), int(values[b"l"]), int(values[b"b"]), values[b"d"])

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The events, parsed once however many follow."""
        found = json.loads(self.payload)
        return [e for e in found if isinstance(e, dict)]

    @cached_property
    def is_terminal(self) -> bool:
        return b'"terminal":true' in self.payload and any(e.get("terminal") for e in self.events)

    def already_delivered(self, lines: int) -> int:
        """How many of the events who has heard so many lines has heard already; never the end: nobody reads on then."""
        return max(0, min(len(self.events) - self.is_terminal, lines - self.lines))

    @cached_property
    def key(self) -> tuple[int, int]:
        return position_key(self.id)


def encode_events(events: Sequence[Event | Mapping[str, Any]]) -> str:
    """The bytes of one stream entry: a JSON list of events, made once."""
    dumped = [
        e.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"phase": e.phase}
        if isinstance(e, Event)
        else e
        for e in events
    ]
    return json.dumps([{"v": RECORD_VERSION, **e} for e in dumped], separators=(",", ":"))
