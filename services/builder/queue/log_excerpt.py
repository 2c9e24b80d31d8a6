"""A build's log as its readers want it: lines with positions, any part of it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.common.streams.entries import Entry
from services.common.streams.positions import STREAM_START, parse_position, position_before

POSITION_HEADER = "Bindery-Log-Position"
"""In the answer: behind the last line that is in it. Given as `after`, the log goes on from there."""


@dataclass(frozen=True)
class LogLine:
    """One thing that a build said. `position` stands behind it."""

    position: str
    phase: str
    message: str

    @property
    def json(self) -> str:
        return json.dumps({"position": self.position, "phase": self.phase, "message": self.message}) + "\n"


@dataclass(frozen=True)
class Part:
    """Which part of a log is asked for: what stands behind a position; of that the first or last `lines`, or all."""

    after: str = ""
    lines: int = 0
    """The first so many, or, where it is negative, the last; 0 for all."""

    @property
    def entry(self) -> str:
        """What to read stored entries behind. Raises `ValueError` for what is no position."""
        if not self.after:
            return STREAM_START
        return position_before(parse_position(self.after)[0])

    def of(self, entries: Iterable[Entry]) -> list[LogLine]:
        """The part, of the entries behind `entry`."""
        found = [line for line in lines_of(entries, self.after) if line.message]
        if self.lines < 0:
            return found[self.lines :]
        return found[: self.lines] if self.lines else found


def lines_of(entries: Iterable[Entry], after: str = "") -> Iterator[LogLine]:
    """Every event behind a position, and a `gap` where some are missing: a log too long, or lost by Redis."""
    at, skip = parse_position(after) if after else (STREAM_START, 0)
    expected = 0 if at == STREAM_START else None
    for entry in entries:
        before = f"{entry.id}.0"
        if expected is None and skip and entry.id != at:
            yield LogLine(before, "gap", "Some lines are missing here.\n")
        elif expected is not None and entry.lines > expected:
            yield LogLine(before, "gap", f"{entry.lines - expected} lines are missing here.\n")
        known = entry.already_delivered(expected) if expected is not None else 0
        known = max(known, skip if entry.id == at else 0)
        for number, event in enumerate(entry.events, start=1):
            if number > known:
                yield LogLine(f"{entry.id}.{number}", str(event["phase"]), str(event.get("message", "")))
        expected = max(expected or 0, entry.lines + len(entry.events))
