"""The log of a run's pod, read from the API server: one stream after the other, until the log is complete."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from services.builder.executors.base import ExecutorUnavailableError, Line
from services.builder.executors.failure_classifier import TAIL_LINES
from services.builder.executors.kubernetes.api import PODS, Api, ApiError
from services.builder.executors.kubernetes.logs import PodLogDecoder, PodLogPosition
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import CONTAINER, PodState
from services.common.service.logging import get_logger
from services.common.service.tasks import cancel_and_wait

log = get_logger(__name__)

_QUEUED_CHUNKS = 4
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0
_TAIL_BYTES = 16 * 2**20


class PodLog:
    """The log of one run's pod, from a position on.

    A stream ends for many reasons: a silence, a restarted API server, the end of the container. Only a stream that was
    opened after the container's end, and comes to its own end, has the whole log.
    """

    def __init__(
        self, *, api: Api, settings: KubernetesSettings, position: PodLogPosition, redact: Callable[[str], str]
    ) -> None:
        self._api = api
        self._settings = settings
        self._decoder = PodLogDecoder(position, line_max_bytes=settings.build_line_max_bytes, redact=redact)
        self._stream: LogReader | None = None
        self._was_opened_after_end = False
        self._open_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._was_tail_missed = False
        self.is_complete = False
        """Whether the log was read to its end."""

    @property
    def position(self) -> PodLogPosition:
        """The place after the last line that was read."""
        return self._decoder.position

    @property
    def job_uid(self) -> str:
        """The uid of the Job that the position belongs to; empty while it is unknown."""
        return self._decoder.position.job

    def set_job_uid(self, uid: str) -> None:
        """Set the Job that the position belongs to."""
        self._decoder.position = replace(self._decoder.position, job=uid)

    def read(self, pod: PodState | None, wake: asyncio.Event) -> list[Line]:
        """Return the lines that have arrived, and open the next stream if it is time. `wake` is set when more arrive.

        A stream that can't be opened, or breaks off, is followed by another after a pause, which doubles each time.
        """
        lines = self._take_lines()
        if pod:
            self._open_if_due(pod, wake)
        return lines

    async def tail(self, pod: PodState) -> list[bytes] | None:
        """Return the last lines of the log, including those that another worker has read; None if they can't be read.

        Log what keeps them from being read, once.
        """
        query = {"container": CONTAINER, "timestamps": "true", "tailLines": str(TAIL_LINES)}
        try:
            content = await self._api.read_end(f"{PODS}/{pod.name}/log", query, max_bytes=_TAIL_BYTES)
        except (ApiError, ExecutorUnavailableError) as error:
            self._report_no_tail(pod, str(error))
            return None

        # Read with timestamps, which distinguish the log from the node's words in place of it.
        decoder = PodLogDecoder(PodLogPosition(), line_max_bytes=self._settings.build_line_max_bytes)
        notes = [line for line in decoder.feed(content) + decoder.end() if line.phase == "gap"]
        if notes and not decoder.tail:
            self._report_no_tail(pod, notes[0].message.strip())
            return None
        return list(decoder.tail)

    @property
    def read_lines(self) -> list[bytes]:
        """The last ones of the lines that this worker has read."""
        return list(self._decoder.tail)

    async def aclose(self) -> None:
        """Close the stream."""
        if self._stream:
            await self._stream.aclose()

    def _take_lines(self) -> list[Line]:
        stream = self._stream
        if stream is None:
            return []

        before = self.position
        lines = self._decoder.feed(stream.take())
        if self.position != before:
            self._pause_seconds = _FIRST_PAUSE_SECONDS

        if stream.has_ended:
            self._stream = None
            if stream.is_whole and self._was_opened_after_end:
                lines += self._decoder.end()
                self.is_complete = True
            self._open_at = time.monotonic() + self._pause_seconds
            self._pause_seconds = min(_MAX_PAUSE_SECONDS, 2 * self._pause_seconds)
        return lines

    def _open_if_due(self, pod: PodState, wake: asyncio.Event) -> None:
        has_log = pod.has_started and not pod.is_deleted
        if not has_log or self._stream or self.is_complete:
            return

        has_ended = pod.exit_code is not None
        is_last_stream = has_ended and not self._was_opened_after_end  # at once: the pod may be removed any time now
        if not is_last_stream and time.monotonic() < self._open_at:
            return

        self._was_opened_after_end = has_ended
        self._decoder = self._decoder.for_next_stream()
        self._stream = LogReader(
            api=self._api,
            pod=pod.name,
            position=self.position,
            quiet_seconds=self._settings.kubernetes_log_quiet_seconds,
            wake=wake,
        )

    def _report_no_tail(self, pod: PodState, reason: str) -> None:
        if not self._was_tail_missed:
            log.warning("log_end_unreadable", pod=pod.name, error=reason)
        self._was_tail_missed = True


class LogReader:
    """One open stream of a pod's log, read by its own task into a short queue; `wake` is set with each chunk."""

    def __init__(
        self, *, api: Api, pod: str, position: PodLogPosition, quiet_seconds: float, wake: asyncio.Event
    ) -> None:
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
        """Return the bytes that have arrived since the last call."""
        chunks = []
        while not self._queue.empty():
            chunks.append(self._queue.get_nowait())
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Close the stream."""
        await cancel_and_wait(self._task)

    async def _read(self, position: PodLogPosition) -> None:
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
