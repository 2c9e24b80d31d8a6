"""Positions in the queue for seats, as the scripts answer them and as a waiting launch watches them."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Self

from services.common.models import Queue
from services.common.models.errors import BinderyError


class SeatAnswer(IntEnum):
    """Answers of the scripts in place of a position in the queue; positions begin at 1."""

    SEATED = 0
    UNKNOWN = -1
    """Neither seat nor position: Redis was emptied."""
    NEVER = -2
    """The server costs more seats than there are in total."""
    FULL = -3
    """Too many launches wait already."""


class BlockedBy(IntEnum):
    """The reason why a waiting launch has no seat yet; the scripts have the same names and values."""

    ADMISSIBLE = 0
    """Nothing: it is given a seat as soon as one is free and its turn has come."""
    KEPT_OUT = 1
    """The quota of its repository, or the total."""
    NOT_COUNTED = 2
    """Redis was emptied, and the running servers are not counted yet."""


class SeatPosition(NamedTuple):
    """Position of a launch in the queue, or a `SeatAnswer`; and why it has no seat yet."""

    number: int
    reason: str = ""
    blocked_by: BlockedBy = BlockedBy.ADMISSIBLE

    @property
    def waits_for_count(self) -> bool:
        """Whether the launch waits because the running servers are not counted yet."""
        return self.number > 0 and self.blocked_by is BlockedBy.NOT_COUNTED

    @property
    def is_seated(self) -> bool:
        """Whether the launch has its seat."""
        return self.number == SeatAnswer.SEATED

    @property
    def is_lost(self) -> bool:
        """Whether Redis has lost the request for a seat, so that it must be repeated."""
        return self.number == SeatAnswer.UNKNOWN

    @property
    def queue(self) -> Queue | None:
        """The queue as followers of the launch see it; None unless the launch waits."""
        return Queue(reason=self.reason, position=self.number) if self.number > 0 else None


class SeatReservation(NamedTuple):
    """The script's answer to a request for a seat."""

    number: int
    """The position in the queue, or a `SeatAnswer`."""
    blocked_by: BlockedBy
    is_repeated: bool
    """Whether the server had its seat, or its position, before this request."""

    @classmethod
    def parse(cls, answer: Sequence[int]) -> Self:
        """Parse the three numbers of the script `take`."""
        number, blocked_by, is_repeated = answer
        return cls(number, BlockedBy(blocked_by), bool(is_repeated))


@dataclass
class WatchedPosition:
    """Position of a launch that waits in this process, kept up to date."""

    position: SeatPosition
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, position: SeatPosition) -> None:
        """Store a position, and wake the launch if it has changed."""
        if position != self.position:
            self.position = position
            self.changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until the position changes, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        self.changed.clear()


def raise_if_refused(answer: int) -> None:
    """Raise `BinderyError("quota_exceeded")` if a script gave neither a seat nor a position."""
    if answer == SeatAnswer.NEVER:
        raise BinderyError("quota_exceeded", "No servers of this kind are started here at the moment.")
    if answer == SeatAnswer.FULL:
        raise BinderyError("quota_exceeded", "Too many servers are running, and too many launches wait for a seat.")
