"""How far one follower has got in a topic, and what it misses or already has of the entry that comes next."""

from dataclasses import dataclass
from typing import Self

from services.common.streams.entries import Entry
from services.common.streams.positions import STREAM_START, TopicPosition, position_before


@dataclass(kw_only=True)
class Cursor:
    """How far one follower has got: behind `events` events of `entry`, or behind all of it if they are 0."""

    entry: str
    events: int
    lines: int | None
    """Number of lines before the position; None until the first entry says so, if the follower resumed."""
    has_ended: bool = False
    """Whether the topic's terminal entry was delivered."""

    @classmethod
    def at(cls, position: TopicPosition) -> Self:
        """Return a cursor at a position that a client gave."""
        return cls(entry=position.entry, events=position.events, lines=0 if position.entry == STREAM_START else None)

    @property
    def read_after(self) -> str:
        """The position to read beyond, so that an entry which was delivered in part is read once more."""
        return position_before(self.entry) if self.events else self.entry

    def has_lost_entry(self, following: Entry) -> bool:
        """Return whether the entry that was delivered in part is gone, now that `following` comes next."""
        return self.events > 0 and self.entry != following.id

    def missing_lines(self, following: Entry) -> int:
        """Return how many lines are missing before the entry that comes next; 0 if the follower's number is unknown."""
        if self.lines is None:
            return 0
        return max(0, following.lines - self.lines)

    def delivered_events(self, entry: Entry) -> int:
        """Return how many of an entry's events the follower has, by the position that it gave."""
        return self.events if entry.id == self.entry else 0

    def repeated_events(self, entry: Entry) -> int:
        """Return how many of an entry's events repeat lines of an earlier entry.

        If Redis lost its last second, the worker that adopted the build has written those lines once more.
        """
        if self.lines is None:
            return 0
        return entry.already_delivered(self.lines)

    def move_behind(self, entry: Entry) -> None:
        """Continue behind an entry that was delivered."""
        self.entry = entry.id
        self.events = 0
        self.lines = max(self.lines or 0, entry.lines + len(entry.events))
        self.has_ended = entry.is_terminal
