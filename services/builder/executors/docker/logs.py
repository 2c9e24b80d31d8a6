"""A container's log: told from where it was left, each line once, and what is missing is said.

The engine sends frames, each with a timestamp in nanoseconds: a line, or 16 KiB of a longer one.
Source: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from services.builder.executors.base import Line
from services.builder.executors.repo2docker import RAW_FACTOR, log_line, unchanged

GAP = "Lines of the build are missing here: the engine has rotated the log.\n"
_HEADER_BYTES = 8


@dataclass(frozen=True)
class Position:
    """Whose log it is, the stamp of the last frame told (Unix `seconds.nanoseconds`), how many with it were told."""

    container: str = ""
    stamp: str = ""
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> "Position":
        container, _, rest = text.partition("/")
        stamp, _, count = rest.partition("/")
        return cls(container, stamp, int(count)) if count else cls()

    def __str__(self) -> str:
        return f"{self.container}/{self.stamp}/{self.count}" if self.stamp else ""


class LogDecoder:
    """Turns the frames of one log stream, opened at `position`, into the lines that come after it."""

    def __init__(
        self, position: Position, *, first: bytes, line_max_bytes: int, redact: Callable[[str], str] = unchanged
    ) -> None:
        self.position = position
        self._first, self._line_max_bytes, self._redact = first, line_max_bytes, redact
        self._skip, self._is_begun = position.count, False
        self._stamp, self._count = position.stamp, position.count
        self._rest = b""
        self._line = b""

    def feed(self, chunk: bytes) -> list[Line]:
        """The new lines that are whole by now."""
        lines: list[Line] = []
        for stamp, text in self._frames(chunk):
            if not self._is_begun and self._was_told(stamp, text, lines):
                continue
            self._is_begun = True
            self._count = self._count + 1 if stamp == self._stamp else 1
            self._stamp = stamp
            room = RAW_FACTOR * self._line_max_bytes - len(self._line)
            self._line += text[: max(0, room)]
            if text.endswith(b"\n"):
                lines.append(log_line(self._line, max_bytes=self._line_max_bytes, redact=self._redact))
                self._line = b""
                self.position = Position(self.position.container, self._stamp, self._count)
        return lines

    def end(self) -> list[Line]:
        """What the log ended with, if its last line has no end."""
        if not self._line:
            return []
        told = log_line(self._line, max_bytes=self._line_max_bytes, redact=self._redact)
        self._line = b""
        self.position = Position(self.position.container, self._stamp, self._count)
        return [told]

    def _was_told(self, stamp: str, text: bytes, lines: list[Line]) -> bool:
        """Whether a frame at the beginning of the stream was told before. A gap is told where those are missing."""
        if stamp == self.position.stamp and self._skip:
            self._skip -= 1
            return True
        if self._skip or (not self.position.stamp and text.rstrip() != self._first):
            lines.append(Line("gap", GAP))
        return False

    def _frames(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        content = self._rest + chunk
        at = 0
        while len(content) >= at + _HEADER_BYTES:
            end = at + _HEADER_BYTES + int.from_bytes(content[at + 4 : at + _HEADER_BYTES])
            if len(content) < end:
                break
            stamp, _, text = content[at + _HEADER_BYTES : end].partition(b" ")
            yield _unix(stamp.decode("ascii", "replace")), text
            at = end
        self._rest = content[at:]


def texts(content: bytes) -> list[bytes]:
    """The lines of a log that was asked for without timestamps; one that is longer than a frame in its pieces."""
    found, at = b"", 0
    while len(content) >= at + _HEADER_BYTES:
        end = at + _HEADER_BYTES + int.from_bytes(content[at + 4 : at + _HEADER_BYTES])
        found += content[at + _HEADER_BYTES : end]
        at = end
    return found.splitlines()


def _unix(stamp: str) -> str:
    """RFC 3339 in UTC as `seconds.nanoseconds`, the form that `since` takes."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return f"{seconds}.{fraction.ljust(9, '0')}"
