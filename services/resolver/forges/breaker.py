"""A circuit breaker: a server that has failed several times in a row costs nobody the wait for its next failure."""

import time


class CircuitBreaker:
    """Counts failures in a row. After `failures` of them it is open, for `open_seconds`: nobody asks.

    After that time one caller may ask again; its success closes the breaker, its failure opens it anew.
    """

    def __init__(self, *, failures: int, open_seconds: float) -> None:
        self._allowed = failures
        self._open_seconds = open_seconds
        self._failures = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nobody may ask at the moment."""
        return self._failures >= self._allowed and time.monotonic() < self._open_until

    def begin(self) -> bool:
        """Return whether the caller may ask now. It then says how that went."""
        if self.is_open:
            return False
        if self._failures >= self._allowed:
            self._open_until = time.monotonic() + self._open_seconds  # until this caller knows, nobody else asks
        return True

    def succeeded(self) -> None:
        """Record an answer, of whatever kind."""
        self._failures = 0

    def failed(self) -> None:
        """Record that there was no answer."""
        self._failures += 1
        if self._failures >= self._allowed:
            self._open_until = time.monotonic() + self._open_seconds
