"""A pod's log, read from where it was left: nothing is told twice, and what is missing is said."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.builder.executors.base import ExecutorUnavailableError, Line
from services.builder.executors.failure_classifier import TAIL_LINES
from services.builder.executors.kubernetes.api import Api, ApiError
from services.builder.executors.kubernetes.cluster_cache import PODS
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import CONTAINER
from services.builder.executors.repo2docker import RAW_FACTOR, log_line, unchanged

GAP = "Lines of the build are missing here: its node has rotated the log.\n"
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_STAMP_BYTES = 64
_QUEUED_CHUNKS = 4


@dataclass(frozen=True)
class Position:
    """The kubelet's stamp of the last line told, in Unix nanoseconds, how many lines with it were told, and whose.

    `job` is the Job's uid: another of the same name is another execution, which has told nothing yet.
    """

    stamp: int = 0
    count: int = 0
    job: str = ""

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read `stamp/count/uid`, or `stamp/count`, which names no Job."""
        stamp, _, rest = text.partition("/")
        count, _, job = rest.partition("/")
        return cls(int(stamp), int(count), job) if text else cls()

    def __str__(self) -> str:
        if self.job:
            return f"{self.stamp}/{self.count}/{self.job}"
        return f"{self.stamp}/{self.count}" if self.stamp else ""

    @property
    def since(self) -> str:
        """The whole second before it: the API's `sinceTime` knows no finer one."""
        return datetime.fromtimestamp(self.stamp // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LogDecoder:
    """Turns the bytes of one log stream, opened at `position`, into the lines that come after it."""

    def __init__(self, position: Position, *, line_max_bytes: int, redact: Callable[[str], str] = unchanged) -> None:
        self.position = position
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._line_max_bytes, self._redact = line_max_bytes, redact
        self._resuming, self._met = bool(position.stamp), 0
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Line]:
        """The new lines that are whole by now."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        lines: list[Line] = []
        for raw in whole:
            self._tell(raw, lines)
        self._rest = rest[: RAW_FACTOR * self._line_max_bytes + _STAMP_BYTES]
        return lines

    def end(self) -> list[Line]:
        """What the log ended with, if its last line has no end."""
        lines: list[Line] = []
        if self._rest:
            self._tell(self._rest, lines)
            self._rest = b""
        return lines

    def resumed(self) -> "LogDecoder":
        """The same for another stream, opened where this one has been told to."""
        again = LogDecoder(self.position, line_max_bytes=self._line_max_bytes, redact=self._redact)
        again.tail = self.tail
        return again

    def _tell(self, raw: bytes, lines: list[Line]) -> None:
        if not (found := _STAMP.match(raw)):
            if raw.strip():  # the node's own words in place of a log
                said = raw[:500].decode("utf-8", "replace")
                lines.append(Line("gap", f"The node says of the log: {said}\n"))
            return
        seconds = round(datetime.fromisoformat((found[1] + found[3]).decode()).timestamp())
        stamp = seconds * 10**9 + int((found[2] or b"0").ljust(9, b"0"))
        if self._resuming and not self._is_new(stamp):
            return
        if self._resuming:
            self._resuming = False
            if self._met == 0:  # the last line told should have come again
                lines.append(Line("gap", GAP))
        same = self.position.count if stamp == self.position.stamp else 0
        self.position = replace(self.position, stamp=stamp, count=same + 1)
        content = raw[found.end() :]
        self.tail.append(content)
        lines.append(log_line(content, max_bytes=self._line_max_bytes, redact=self._redact))

    def _is_new(self, stamp: int) -> bool:
        if stamp == self.position.stamp:
            self._met += 1
            return self._met > self.position.count
        return stamp > self.position.stamp


class LogReader:
    """One open stream of a pod's log, read by a task of its own into a short queue; `wake` is set with each chunk."""

    def __init__(
        self, api: Api, settings: KubernetesSettings, pod: str, position: Position, wake: asyncio.Event
    ) -> None:
        self._api, self._settings, self._pod, self._wake = api, settings, pod, wake
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_CHUNKS)
        self._task = asyncio.create_task(self._read(position))
        self.is_whole = False
        """Whether the stream came to its own end."""

    @property
    def has_ended(self) -> bool:
        """Whether the stream has ended and all of it was taken."""
        return self._task.done() and self._queue.empty()

    def take(self) -> bytes:
        """What has come since."""
        found = []
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return b"".join(found)

    async def aclose(self) -> None:
        """Close the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, position: Position) -> None:
        try:
            query = log_query(position) | {"follow": "true"}
            path, quiet = f"{PODS}/{self._pod}/log", self._settings.kubernetes_log_quiet_seconds
            async with self._api.stream(path, query, quiet_seconds=quiet) as chunks:
                while chunk := await chunks.read():
                    await self._queue.put(chunk)
                    self._wake.set()
            self.is_whole = True
        except (ExecutorUnavailableError, ApiError):
            pass  # whoever follows sees from the watch whether there is more to read, and opens another
        finally:
            self._wake.set()


def log_query(position: Position) -> dict[str, str]:
    """The query for the log after a position, and a little before it."""
    query = {"container": CONTAINER, "timestamps": "true"}
    return query | {"sinceTime": position.since} if position.stamp else query
