"""The log of a pod as lines: resumed at a position, each line once, with a note about lost lines."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.builder.executors.base import Line
from services.builder.executors.failure_classifier import TAIL_LINES
from services.builder.executors.repo2docker import RAW_FACTOR, log_line, unchanged

GAP = "Lines of the build are missing here: its node has rotated the log.\n"
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_STAMP_BYTES = 64
_POSITION = re.compile(r"([0-9]{1,19})/([0-9]{1,19})(?:/(.*))?", re.ASCII)
_MAX_NOTE_BYTES = 500


@dataclass(frozen=True)
class PodLogPosition:
    """A place in one Job's log: after the line with this timestamp, the `count`th that has it."""

    stamp: int = 0
    """The kubelet's timestamp, in Unix nanoseconds."""
    count: int = 0
    job: str = ""
    """The Job's uid: another Job of the same name is another execution, of which no line was read."""

    @classmethod
    def parse(cls, text: str) -> "PodLogPosition":
        """Return the position that `str` has written: `stamp/count/uid`, or `stamp/count`, which names no Job.

        Any other text, as another executor's, is the beginning.
        """
        match = _POSITION.fullmatch(text)
        return cls(int(match[1]), int(match[2]), match[3] or "") if match else cls()

    def __str__(self) -> str:
        if self.job:
            return f"{self.stamp}/{self.count}/{self.job}"
        return f"{self.stamp}/{self.count}" if self.stamp else ""

    @property
    def since(self) -> str:
        """The whole second before it: the API's `sinceTime` has no finer resolution."""
        return datetime.fromtimestamp(self.stamp // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PodLogDecoder:
    """A decoder of one log stream, opened at `position`: it turns bytes into the lines after that position."""

    def __init__(
        self, position: PodLogPosition, *, line_max_bytes: int, redact: Callable[[str], str] = unchanged
    ) -> None:
        self.position = position
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._line_max_bytes = line_max_bytes
        self._redact = redact
        self._is_resuming = bool(position.stamp)
        self._repeated_lines = 0
        self._last_note = b""
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that this chunk of the stream completes."""
        *complete, rest = (self._rest + chunk).split(b"\n")
        lines: list[Line] = []
        for raw in complete:
            lines += self._decode(raw)
        self._rest = rest[: RAW_FACTOR * self._line_max_bytes + _STAMP_BYTES]
        return lines

    def end(self) -> list[Line]:
        """Return the last line of the log, if it has no line end."""
        if not self._rest:
            return []
        raw = self._rest
        self._rest = b""
        return self._decode(raw)

    def for_next_stream(self) -> "PodLogDecoder":
        """Return a decoder of another stream, opened at the position that this one has reached."""
        decoder = PodLogDecoder(self.position, line_max_bytes=self._line_max_bytes, redact=self._redact)
        decoder.tail = self.tail
        decoder._last_note = self._last_note
        return decoder

    def _decode(self, raw: bytes) -> list[Line]:
        match = _STAMP.match(raw)
        stamp = _unix_nanoseconds(match) if match else None
        if match is None or stamp is None:
            return self._note_of_node(raw)

        self._last_note = b""
        lines: list[Line] = []
        if self._is_resuming:
            if not self._is_new(stamp):
                return []
            self._is_resuming = False
            if self._repeated_lines == 0:  # the last line before the position should have been repeated
                lines.append(Line("gap", GAP))

        same_stamp = self.position.count if stamp == self.position.stamp else 0
        self.position = replace(self.position, stamp=stamp, count=same_stamp + 1)

        content = raw[match.end() :]
        self.tail.append(content)
        lines.append(log_line(content, max_bytes=self._line_max_bytes, redact=self._redact))
        return lines

    def _is_new(self, stamp: int) -> bool:
        """Whether a line at the beginning of the stream comes after the position."""
        if stamp == self.position.stamp:
            self._repeated_lines += 1
            return self._repeated_lines > self.position.count
        return stamp > self.position.stamp

    def _note_of_node(self, raw: bytes) -> list[Line]:
        """Return the line for output without a timestamp: the node's own words in place of a log, which it repeats."""
        if not raw.strip() or raw == self._last_note:
            return []
        self._last_note = raw
        text = raw[:_MAX_NOTE_BYTES].decode("utf-8", "replace")
        return [Line("gap", f"The node says of the log: {text}\n")]


def _unix_nanoseconds(stamp: re.Match[bytes]) -> int | None:
    """Return the time that a line begins with; None if there is no such time."""
    try:
        seconds = round(datetime.fromisoformat((stamp[1] + stamp[3]).decode()).timestamp())
    except ValueError:
        return None
    return seconds * 10**9 + int((stamp[2] or b"0").ljust(9, b"0"))
