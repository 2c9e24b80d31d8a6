"""The log of a build's container, read from the engine: followed from a position on, or its last lines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp

from services.builder.executors.base import Line
from services.builder.executors.docker.container import FIRST_LINE
from services.builder.executors.docker.engine import Engine, EngineError, EngineFailedError
from services.builder.executors.docker.logs import (
    ContainerLogDecoder,
    ContainerLogPosition,
    UnreadableLogError,
    plain_lines,
)
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.failure_classifier import TAIL_LINES
from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger

log = get_logger(__name__)

_BATCH_BYTES = 64 * 1024
_BATCH_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class ContainerLog:
    """The logs of one engine's containers. `redact` blanks secrets in their lines."""

    def __init__(self, engine: Engine, settings: DockerSettings, *, redact: Callable[[str], str]) -> None:
        self._engine = engine
        self._settings = settings
        self._redact = redact

    async def read(
        self, position: ContainerLogPosition, *, is_followed: bool
    ) -> AsyncIterator[tuple[tuple[Line, ...], ContainerLogPosition]]:
        """Yield the lines after a position, until the stream ends or is silent for too long.

        Raise `UnreadableLogError` if the engine can't read the log, or not on.
        """
        decoder = ContainerLogDecoder(
            position, first=FIRST_LINE, line_max_bytes=self._settings.build_line_max_bytes, redact=self._redact
        )
        path = f"/containers/{position.container}/logs"
        query = {"stdout": "1", "timestamps": "1", "follow": str(int(is_followed))}
        if position.stamp:
            query["since"] = position.stamp
        quiet_seconds = self._settings.docker_log_quiet_seconds

        try:
            async with self._engine.stream(path, query, quiet_seconds=quiet_seconds) as stream:
                while not decoder.problem and (chunk := await stream.readany()):
                    if lines := decoder.feed(chunk + await _rest_of_batch(stream)):
                        yield tuple(lines), decoder.position
        except (EngineError, aiohttp.SocketTimeoutError):
            return  # the next inspection of the container shows the reason
        except EngineFailedError as error:
            raise UnreadableLogError(str(error)) from error

        if decoder.problem:
            raise UnreadableLogError(decoder.problem)
        if not is_followed and (lines := decoder.end()):  # nothing can come after it
            yield tuple(lines), decoder.position

    async def tail(self, container: str) -> list[bytes] | None:
        """Return the last lines of an ended container's log; None if it is gone, or could not be read in time."""
        path = f"/containers/{container}/logs"
        query = {"stdout": "1", "tail": str(TAIL_LINES)}
        backoff = Backoff(
            first_seconds=_FIRST_PAUSE_SECONDS,
            longest_seconds=_LONGEST_PAUSE_SECONDS,
            patience_seconds=self._settings.build_log_end_seconds,
        )
        while True:
            try:
                return plain_lines(await self._engine.read(path, query=query))
            except (EngineError, EngineFailedError, UnreadableLogError) as error:
                is_gone = isinstance(error, EngineError) and error.status == 404
                if is_gone or not await backoff.sleep():
                    log.warning("log_end_unreadable", container=container, error=str(error))
                    return None


async def _rest_of_batch(stream: aiohttp.StreamReader) -> bytes:
    """Return the output that arrives within the time, and the size, of one batch."""
    content = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BATCH_SECONDS):
            while len(content) < _BATCH_BYTES and (chunk := await stream.readany()):
                content += chunk
    return content
