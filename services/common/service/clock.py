"""The clock that all processes of an installation share: Redis' own, known from time to time and counted on in between.

Hosts' wall clocks differ. A time that another process reads, or that another process wrote, is of this clock.
"""

import time

from prometheus_client import Gauge

from services.common.service.logging import get_logger

log = get_logger(__name__)

OFFSET = Gauge("bindery_clock_offset_seconds", "This host's clock minus that of Redis, in seconds")


class SharedClock:
    """Redis' clock, as this process knows it; this host's own until Redis has been asked for the first time.

    It goes on with the monotonic clock, so that a step of this host's clock does not move it.
    """

    def __init__(self) -> None:
        self._ahead_of_monotonic: float | None = None
        self._offset_logged = 0.0

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        if self._ahead_of_monotonic is None:
            return time.time()  # noqa: TID251
        return time.monotonic() + self._ahead_of_monotonic

    def set(self, redis_time: float, *, asked_at: float, answered_at: float, warn_seconds: float) -> None:
        """Take over the time that Redis gave between two moments of the monotonic clock.

        Redis read its clock half way between, give or take half the time that the answer took: a difference within
        that is no news, and the clock does not move. Log a warning when this host's clock is more than `warn_seconds`
        off, again when that changes by as much, and when it is over.
        """
        ahead = redis_time - (asked_at + answered_at) / 2
        doubt_seconds = (answered_at - asked_at) / 2
        if self._ahead_of_monotonic is None or abs(ahead - self._ahead_of_monotonic) > doubt_seconds:
            self._ahead_of_monotonic = ahead

        offset = time.time() - self.now()  # noqa: TID251
        OFFSET.set(offset)
        self._log_change(offset if abs(offset) > warn_seconds + doubt_seconds else 0.0, warn_seconds)

    def _log_change(self, offset: float, warn_seconds: float) -> None:
        is_over = self._offset_logged != 0.0 and offset == 0.0
        if abs(offset - self._offset_logged) <= warn_seconds and not is_over:
            return
        self._offset_logged = offset
        write = log.info if is_over else log.warning
        write("clock_offset", seconds=round(offset, 3))


clock = SharedClock()
"""The clock of this process."""
