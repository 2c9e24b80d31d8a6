"""The log of a pod as lines: resumed at a position, each line once, with a note about lost lines."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.builder.executors.base import ExecutorUnavailableError, Line
from services.builder.executors.failure_classifier import TAIL_LINES
from services.builder.executors.kubernetes.api import PODS, Api, ApiError
from services.builder.executors.kubernetes.states import CONTAINER
from services.builder.executors.repo2docker import RAW_FACTOR, log_line, unchanged

GAP = "Lines of the build are missing here: its node has rotated the log.\n"
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_STAMP_BYTES = 64
_MAX_NOTE_BYTES = 500
_QUEUED_CHUNKS = 4


@dataclass(frozen=True)
class Position:
    """A place in one Job's log: after the line with this timestamp, the `count`th that has it."""

    stamp: int = 0
    """The kubelet's timestamp, in Unix nanoseconds."""
    count: int = 0
    job: str = ""
    """The Job's uid: another Job of the same name is another execution, of which no line was read."""

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Return the position that `str` has written: `stamp/count/uid`, or `stamp/count`, which names no Job."""
        stamp, _, rest = text.partition("/")
        count, _, job = rest.partition("/")
        return cls(int(stamp), int(count), job) if text else cls()

    def __str__(self) -> str:
        if self.job:
            return f"{self.stamp}/{self.count}/{self.job}"
        return f"{self.stamp}/{self.count}" if self.stamp else ""

    @property
    def since(self) -> str:
        """The whole second before it: the API's `sinceTime` has no finer resolution."""
        return datetime.fromtimestamp(self.stamp // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LogDecoder:
    """A decoder of one log stream, opened at `position`: it turns bytes into the lines after that position."""

    def __init__(self, position: Position, *, line_max_bytes: int, redact: Callable[[str], str] = unchanged) -> None:
        self.position = position
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._line_max_bytes = line_max_bytes
        self._redact = redact
        self._is_resuming = bool(position.stamp)
        self._repeated_lines = 0
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

    def for_next_stream(self) -> "LogDecoder":
        """Return a decoder of another stream, opened at the position that this one has reached."""
        decoder = LogDecoder(self.position, line_max_bytes=self._line_max_bytes, redact=self._redact)
        decoder.tail = self.tail
        return decoder

    def _decode(self, raw: bytes) -> list[Line]:
        match = _STAMP.match(raw)
        if match is None:
            return _note_of_node(raw)
        seconds = round(datetime.fromisoformat((match[1] + match[3]).decode()).timestamp())
        stamp = seconds * 10**9 + int((match[2] or b"0").ljust(9, b"0"))

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


class LogReader:
    """One open stream of a pod's log, read by its own task into a short queue; `wake` is set with each chunk."""

    def __init__(self, *, api: Api, pod: str, position: Position, quiet_seconds: float, wake: asyncio.Event) -> None:
        self._api = api
        self._path = f"{PODS}/{pod}/log"
        self._quiet_seconds = quiet_seconds
        self._wake = wake
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_CHUNKS)
        self._task = asyncio.create_task(self._read(position))
        self.is_whole = False
        """Whether the stream came to its own end."""

    @property
    def has_ended(self) -> bool:
        """Whether the stream has ended and all of it was taken."""
        return self._task.done() and self._queue.empty()

    def take(self) -> bytes:
        """Return what has arrived since the last call."""
        chunks = []
        while not self._queue.empty():
            chunks.append(self._queue.get_nowait())
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Close the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, position: Position) -> None:
        query = {"container": CONTAINER, "timestamps": "true"}
        if position.stamp:
            query["sinceTime"] = position.since
        query["follow"] = "true"

        try:
            async with self._api.stream(self._path, query, quiet_seconds=self._quiet_seconds) as stream:
                while chunk := await stream.read():
                    await self._queue.put(chunk)
                    self._wake.set()
            self.is_whole = True
        except (ExecutorUnavailableError, ApiError):
            pass  # the follower sees in the watch whether there is more to read, and opens another stream
        finally:
            self._wake.set()


def _note_of_node(raw: bytes) -> list[Line]:
    """Return the line for what has no timestamp: the node's own words in place of a log."""
    if not raw.strip():
        return []
    text = raw[:_MAX_NOTE_BYTES].decode("utf-8", "replace")
    return [Line("gap", f"The node says of the log: {text}\n")]
