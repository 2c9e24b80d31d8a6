"""What a program prints, as lines of the log: also a progress bar, which draws itself over and over in one line."""

import re
import time

from services.builder.executors.process.session.log import BuildLog

_OVERWRITTEN = re.compile(rb"\r(?!$)")
"""A return to the beginning of the line; one at the end of what has come may belong to a line break."""


class OutputLines:
    """Hands each line of an output to the log.

    Of a line that is longer than `max_line_bytes`, only the beginning is kept in memory. Of a line that is overwritten
    while it is printed, the log gets a state every `progress_seconds` of it, and the last one.
    """

    def __init__(self, log: BuildLog, *, max_line_bytes: int) -> None:
        self._log = log
        self._max_line_bytes = max_line_bytes
        self._line = b""
        self._is_overlong = False
        self._relayed_at = time.monotonic()

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the output."""
        *completed, rest = chunk.split(b"\n")
        for part in completed:
            self._add(part)
            self._relay(self._line.rstrip(b"\r"))
            self._line = b""
            self._is_overlong = False
        self._add(rest)

    def close(self) -> None:
        """Hand over a last line that has no end."""
        if self._line:
            self._relay(self._line)

    def _add(self, part: bytes) -> None:
        *overwritten, last = _OVERWRITTEN.split(part if self._is_overlong else self._line + part)
        if overwritten:
            self._is_overlong = False
        if not self._is_overlong:
            self._line = last
            self._is_overlong = len(last) > self._max_line_bytes

        shown = [state for state in overwritten if state.strip()]
        if shown and time.monotonic() - self._relayed_at >= self._log.progress_seconds:
            self._relay(shown[-1])

    def _relay(self, line: bytes) -> None:
        self._log.relay("building", line)
        self._relayed_at = time.monotonic()
