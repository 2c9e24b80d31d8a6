"""The log of a container as lines: resumed at a position, each line once, with a note about lost lines.

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
_OUTPUT_STREAMS = frozenset({b"\0\0\0\0", b"\1\0\0\0", b"\2\0\0\0"})
"""The beginnings of the headers of what a container prints. The engine's own words, that it can't read on, have 3."""
_FRAME_MAX_BYTES = 16 * 2**20
_MAX_DETAIL_CHARS = 500


class UnreadableLogError(Exception):
    """The engine sent something else than frames of a log, perhaps why it can't read the log."""


@dataclass(frozen=True)
class ContainerLogPosition:
    """A place in one container's log: after the frame with this timestamp, the `count`th that has it."""

    container: str = ""
    stamp: str = ""
    """Unix time, `seconds.nanoseconds`."""
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> "ContainerLogPosition":
        """Return the position that `str` has written; the beginning for any other text."""
        container, _, rest = text.partition("/")
        stamp, _, count = rest.partition("/")
        return cls(container, stamp, int(count)) if count.isascii() and count.isdigit() else cls()

    def __str__(self) -> str:
        return f"{self.container}/{self.stamp}/{self.count}" if self.stamp else ""


class ContainerLogDecoder:
    """A decoder of one log stream, opened at `position`: it turns frames into the lines after that position.

    `first` is the line that every complete log begins with.
    """

    def __init__(
        self,
        position: ContainerLogPosition,
        *,
        first: bytes,
        line_max_bytes: int,
        redact: Callable[[str], str] = unchanged,
    ) -> None:
        self.position = position
        self._first = first
        self._line_max_bytes = line_max_bytes
        self._redact = redact
        self._frames_to_skip = position.count
        self._has_resumed = False
        self._stamp = position.stamp
        self._count = position.count
        self._rest = b""
        self._line = b""
        self.problem = ""
        """Why the stream can't be read on; empty while it can."""

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that this chunk of the stream completes. After a `problem` there are no more."""
        lines: list[Line] = []
        for stamp, text in self._frames(chunk):
            if not self._has_resumed:
                if self._skips(stamp):
                    continue
                if self._frames_are_lost(text):
                    lines.append(Line("gap", GAP))
                self._has_resumed = True

            self._count = self._count + 1 if stamp == self._stamp else 1
            self._stamp = stamp

            room = RAW_FACTOR * self._line_max_bytes - len(self._line)
            self._line += text[: max(0, room)]
            if text.endswith(b"\n"):
                lines.append(self._end_line())
        return lines

    def end(self) -> list[Line]:
        """Return the last line of the log, if it has no line end."""
        return [self._end_line()] if self._line else []

    def _end_line(self) -> Line:
        line = log_line(self._line, max_bytes=self._line_max_bytes, redact=self._redact)
        self._line = b""
        self.position = ContainerLogPosition(self.position.container, self._stamp, self._count)
        return line

    def _skips(self, stamp: str) -> bool:
        """Return whether a frame at the beginning of the stream comes before the position."""
        if stamp != self.position.stamp or not self._frames_to_skip:
            return False
        self._frames_to_skip -= 1
        return True

    def _frames_are_lost(self, text: bytes) -> bool:
        """Return whether frames are missing before the first one that is new."""
        is_from_beginning = not self.position.stamp
        return self._frames_to_skip > 0 or (is_from_beginning and text.rstrip() != self._first)

    def _frames(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the timestamp and the text of each frame that is complete."""
        if self.problem:
            return
        content = self._rest + chunk
        at = 0
        try:
            for start, end in _payloads(content):
                stamp, _, text = content[start:end].partition(b" ")
                yield _unix_time(stamp.decode("ascii", "replace")), text
                at = end
        except UnreadableLogError as error:
            self.problem = str(error)
        self._rest = content[at:]


def plain_lines(content: bytes) -> list[bytes]:
    """Return the lines of a log that was requested without timestamps. Raise `UnreadableLogError`."""
    return b"".join(content[start:end] for start, end in _payloads(content)).splitlines()


def _payloads(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of the payload of each complete frame. Raise `UnreadableLogError`."""
    at = 0
    while len(content) >= at + _HEADER_BYTES:
        start = at + _HEADER_BYTES
        size = int.from_bytes(content[at + 4 : start])
        if content[at : at + 4] not in _OUTPUT_STREAMS or size > _FRAME_MAX_BYTES:
            words = content[start : start + _MAX_DETAIL_CHARS].decode("utf-8", "replace").strip()
            raise UnreadableLogError(f"the engine can't read it: {words}")

        end = start + size
        if len(content) < end:
            return
        yield start, end
        at = end


def _unix_time(stamp: str) -> str:
    """Return a time of RFC 3339 in UTC as `seconds.nanoseconds`, the form that the query `since` takes.

    Raise `UnreadableLogError`.
    """
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    try:
        seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise UnreadableLogError(f"it has {stamp[:40]!r} in place of a time") from None
    return f"{seconds}.{fraction.ljust(9, '0')}"
