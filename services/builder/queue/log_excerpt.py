"""Excerpts of a build's log: lines with their positions, from any position on."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.common.streams.cursor import Cursor
from services.common.streams.entries import Entry
from services.common.streams.positions import STREAM_START, TOPIC_START, parse_position, position_before

POSITION_HEADER = "Bindery-Log-Position"
"""Header of the reply: the position after its last line. Given as `after`, the log continues there."""


@dataclass(frozen=True)
class LogLine:
    """One line of a build's log, and the position after it."""

    position: str
    phase: str
    message: str

    @property
    def json(self) -> str:
        """The line in the format `jsonl`."""
        return json.dumps({"position": self.position, "phase": self.phase, "message": self.message}) + "\n"


@dataclass(frozen=True)
class LogExcerpt:
    """A selection of a log's lines: those after a position, or the first or last ones of these."""

    after: str = ""
    lines: int = 0
    """How many lines: the first ones, or the last ones if it is negative; 0 for all."""

    @property
    def after_entry(self) -> str:
        """The position after which stored entries are read. Raise `ValueError` if `after` is not a position."""
        if not self.after:
            return STREAM_START
        return position_before(parse_position(self.after)[0])

    def of(self, entries: Iterable[Entry]) -> list[LogLine]:
        """Return the selected lines of the entries after `after_entry`."""
        lines = [line for line in lines_of(entries, self.after) if line.message]
        if self.lines < 0:
            return lines[self.lines :]
        return lines[: self.lines] if self.lines else lines


def lines_of(entries: Iterable[Entry], after: str = "") -> Iterator[LogLine]:
    """Yield every event after a position, and a `gap` if events are missing: a log too long, or lost by Redis."""
    cursor = Cursor.at(parse_position(after) if after else TOPIC_START)
    for entry in entries:
        position = f"{entry.id}.0"
        if cursor.lines is None and cursor.has_lost_entry(entry):
            yield LogLine(position, "gap", "Some lines are missing here.\n")
        elif missing_lines := cursor.missing_lines(entry):
            yield LogLine(position, "gap", f"{missing_lines} lines are missing here.\n")

        delivered = max(cursor.delivered_events(entry), cursor.repeated_events(entry))
        for number, event in enumerate(entry.events[delivered:], start=delivered + 1):
            yield LogLine(f"{entry.id}.{number}", str(event["phase"]), str(event.get("message", "")))
        cursor.move_behind(entry)
