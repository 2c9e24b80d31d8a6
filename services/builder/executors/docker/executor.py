"""Builds as containers of an engine: each runs repo2docker, outlives its worker, and keeps its log until removed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import aiohttp

from services.builder.executors.base import (
    Attempt,
    Batch,
    Execution,
    ExecutionVanishedError,
    ExecutorUnavailableError,
    Finished,
    Line,
)
from services.builder.executors.build_credentials import CredentialsForBuilds
from services.builder.executors.docker.container import (
    EPOCH,
    EXECUTION,
    FIRST,
    IMAGE_KEY,
    INSTALLATION,
    State,
    container_name,
    epoch_file,
    epoch_in,
    files,
    specification,
)
from services.builder.executors.docker.engine import Engine, EngineError, EngineFailedError
from services.builder.executors.docker.logs import LogDecoder, Position, texts
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.failure_classifier import TAIL_LINES, classify_exit
from services.builder.executors.repo2docker import config_text, environment
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger

log = get_logger(__name__)

_BATCH_BYTES = 64 * 1024
_BATCH_SECONDS = 0.05
_LOOK_SECONDS = 0.2
_NO_SOCKET = "bind source path does not exist"


class DockerExecutor:
    """Keeps the executors' contract with containers; a position is a frame of one container's log.

    A container is never made twice for one run without that being noticed: the position names the one that it is of.
    """

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._engine = Engine(settings)
        self._logins = CredentialsForBuilds(settings)

    async def ensure(self, attempt: Attempt) -> None:
        """Make and start the container of the attempt's run, unless it is there.

        Raises `BinderyError`: `builder_image_unavailable` when there is nothing to run.
        """
        name = container_name(attempt)
        state = await self._look(name) or await self._create(name, attempt)
        if state.status == "created":
            await self._fill(name, attempt)
            await self._start(name)
        elif attempt.epoch > state.epoch:
            with contextlib.suppress(ExecutorUnavailableError):  # another worker gave it its logins: know them, too
                await self._logins.for_image(attempt.image)
            await self._raise_epoch(name, attempt.epoch)

    async def _create(self, name: str, attempt: Attempt) -> State:
        body = specification(attempt, self._settings, environment(attempt, self._settings))
        try:
            await self._post_create(name, body)
        except EngineError as error:
            if _NO_SOCKET in str(error):  # an engine that ends has removed it already, one that begins makes it soon
                raise ExecutorUnavailableError(str(error)) from error
            if error.status != 404:  # of a refusal nothing comes but another
                log.error("engine_refuses", doing="create", container=name, error=str(error))
                raise BinderyError("internal", "The engine refuses to make the build's container.") from error
            await self._pull()
            await self._post_create(name, body)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.docker_read_seconds):
                while (state := await self._look(name)) is None:  # its name is taken before it can be seen
                    await asyncio.sleep(_BATCH_SECONDS)
                return state
        raise ExecutorUnavailableError(f"the container {name} is not to be seen")

    async def _post_create(self, name: str, body: object) -> None:
        try:
            await self._engine.call("POST", "/containers/create", query={"name": name}, body=body)
        except EngineError as error:
            if error.status != 409:  # else another worker was faster
                raise

    async def _pull(self) -> None:
        image = self._settings.builder_image
        try:
            failed = await self._engine.pull(image)
        except (EngineError, EngineFailedError, aiohttp.SocketTimeoutError) as error:
            failed = str(error)
        if failed:
            log.error("builder_image_unavailable", image=image, error=failed)
            raise BinderyError("builder_image_unavailable", "The engine has no builder image, and can't pull it.")

    async def _fill(self, name: str, attempt: Attempt) -> None:
        content = files(
            attempt.epoch,
            config_text(attempt, self._settings),
            environment(attempt, self._settings),
            (await self._logins.for_image(attempt.image)).config_json,
        )
        with _gone_is_unavailable(name):
            await self._engine.call("PUT", f"/containers/{name}/archive", query={"path": "/"}, body=content)

    async def _start(self, name: str) -> None:
        with _gone_is_unavailable(name):
            await self._engine.call("POST", f"/containers/{name}/start")

    async def _raise_epoch(self, name: str, epoch: int) -> None:
        if epoch > await self._epoch(name):
            with _gone_is_unavailable(name):
                await self._engine.call(
                    "PUT", f"/containers/{name}/archive", query={"path": "/"}, body=epoch_file(epoch)
                )

    async def _epoch(self, name: str) -> int:
        """The highest claim that asked for a container; 0 for one that is gone."""
        try:
            return epoch_in(await self._engine.read(f"/containers/{name}/archive", query={"path": EPOCH}))
        except EngineError:
            return 0

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the container's log in batches of 50 ms or 64 KiB, and how it ended.

        Raises `ExecutionVanishedError` when the container is gone, or is another than the position's.
        """
        name, told = container_name(attempt), Position.parse(position)
        while True:
            # Looked at before its log is read: what an ended container has said is read below, all of it.
            state = await self._look(name)
            if state is None:
                raise ExecutionVanishedError(f"the container {name} is gone")
            if told.container not in {"", state.id}:
                await self._remove(state.id)
                raise ExecutionVanishedError(f"the container {name} was removed")
            if state.status == "created":
                raise ExecutorUnavailableError(f"the container {name} has not started")
            told = Position(state.id, told.stamp, told.count)
            async for lines, reached in self._log(told, is_followed=not state.is_ended):
                told = reached
                yield Batch(lines, str(told))
            if state.is_ended:
                yield await self._finished(state)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _log(self, told: Position, *, is_followed: bool) -> AsyncIterator[tuple[tuple[Line, ...], Position]]:
        """What comes after a position, until the engine ends the stream or is silent for long."""
        unfolding = LogDecoder(
            told, first=FIRST, line_max_bytes=self._settings.build_line_max_bytes, redact=self._logins.redaction
        )
        query = {"stdout": "1", "timestamps": "1", "follow": str(int(is_followed))}
        if told.stamp:
            query["since"] = told.stamp
        quiet = self._settings.docker_log_quiet_seconds
        try:
            async with self._engine.stream(f"/containers/{told.container}/logs", query, quiet_seconds=quiet) as chunks:
                while chunk := await chunks.readany():
                    if lines := unfolding.feed(chunk + await _more(chunks)):
                        yield tuple(lines), unfolding.position
            if not is_followed and (lines := unfolding.end()):  # nothing can come after it
                yield tuple(lines), unfolding.position
        except (EngineError, aiohttp.SocketTimeoutError):
            return  # the container itself tells what that means

    async def _finished(self, state: State) -> Finished:
        query = {"stdout": "1", "tail": str(TAIL_LINES)}
        try:
            tail = texts(await self._engine.read(f"/containers/{state.id}/logs", query=query))
        except EngineError:
            raise ExecutionVanishedError("its container is gone") from None
        found = classify_exit(
            state.exit_code,
            [*tail, state.error.encode()] if state.error else tail,
            is_out_of_memory=state.is_out_of_memory,
            memory_limit=self._settings.build_memory_limit,
        )
        return replace(found, error_message=found.error_message and self._logins.redaction(found.error_message))

    async def stop(self, attempt: Attempt) -> None:
        """Kill the attempt's containers: with its client, a build in the engine ends too. They stay until removed.

        A claim that another has followed stops nothing.
        """
        for state in await self._listed(attempt.build_id):
            if attempt.epoch < max(state.epoch, await self._epoch(state.id)):
                continue
            with contextlib.suppress(EngineError):  # gone, or ended: 404, 409
                if state.status == "created":  # a paused worker could still start it
                    await self._remove(state.id)
                else:
                    await self._engine.call("POST", f"/containers/{state.id}/kill")
                    await self._engine.call("POST", f"/containers/{state.id}/wait")

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return the attempts that have containers in the engine, by this installation, or those at one image."""
        found: dict[str, Execution] = {}
        for state in await self._listed(image_key=image_key):
            epoch = max(state.epoch, await self._epoch(state.id) if state.is_alive else 0)
            known = found.get(state.build_id, Execution(state.build_id, 0, is_alive=False))
            found[state.build_id] = Execution(
                state.build_id, max(known.epoch, epoch), is_alive=known.is_alive or state.is_alive
            )
        return list(found.values())

    async def remove(self, build_id: str) -> None:
        """Remove an attempt's ended containers with their logs. A living one stays."""
        for state in await self._listed(build_id):
            if not state.is_alive:
                await self._remove(state.id)

    async def aclose(self) -> None:
        """Let go of connections; containers go on."""
        await self._logins.aclose()
        await self._engine.aclose()

    async def trouble(self) -> str | None:
        """Say when the engine does not answer."""
        try:
            await self._engine.call("GET", "/_ping")
        except (EngineError, ExecutorUnavailableError) as error:
            return f"the container engine at {self._settings.docker_host} does not answer: {error}"
        return None

    async def _look(self, name: str) -> State | None:
        try:
            return State.of(await self._engine.call("GET", f"/containers/{name}/json"))
        except EngineError as error:
            if error.status == 404:
                return None
            raise ExecutorUnavailableError(str(error)) from error

    async def _listed(self, build_id: str = "", *, image_key: str = "") -> Sequence[State]:
        labels = [
            f"{INSTALLATION}={self._settings.installation_id}",
            f"{EXECUTION}={build_id}" if build_id else EXECUTION,
            *([f"{IMAGE_KEY}={image_key}"] if image_key else []),
        ]
        query = {"all": "1", "filters": json.dumps({"label": labels})}
        try:
            found = await self._engine.call("GET", "/containers/json", query=query)
        except EngineError as error:
            raise ExecutorUnavailableError(str(error)) from error
        return [state for raw in found if (state := State.listed(raw))]

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(EngineError):  # gone, or on its way: 404, 409
            await self._engine.call("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"})


async def _more(chunks: aiohttp.StreamReader) -> bytes:
    """What else comes within the time, and the size, of one batch."""
    content = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BATCH_SECONDS):
            while len(content) < _BATCH_BYTES and (chunk := await chunks.readany()):
                content += chunk
    return content


@contextlib.contextmanager
def _gone_is_unavailable(name: str) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        if error.status == 404:
            raise ExecutorUnavailableError(f"the container {name} is gone: it is made again") from error
        log.error("engine_refuses", doing="run", container=name, error=str(error))
        raise BinderyError("internal", "The engine refuses to run the build's container.") from error
