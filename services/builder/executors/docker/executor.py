"""Builds as containers of an engine: each runs repo2docker, outlives its worker, and keeps its log until removal."""

import asyncio
import contextlib
import json
import tarfile
import time
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
    IMAGE_KEY,
    INSTALLATION,
    ContainerState,
    container_name,
    epoch_file,
    input_files,
    read_epoch,
    specification,
)
from services.builder.executors.docker.container_log import ContainerLog
from services.builder.executors.docker.engine import Engine, EngineError, EngineFailedError
from services.builder.executors.docker.logs import ContainerLogPosition, UnreadableLogError
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.failure_classifier import classify_exit
from services.builder.executors.repo2docker import config_text, environment
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger

log = get_logger(__name__)

_BATCH_SECONDS = 0.05
_POLL_SECONDS = 0.2
_UNREADABLE_SECONDS = 2.0
"""How soon a log that the engine could not read, or not on, is opened again."""
_LOST_END = "The end of the log is missing: the engine can't read it.\n"
_NO_SOCKET = "bind source path does not exist"
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
"""What parsing raises for an object that is not of the shape that the engine's API describes."""


class DockerExecutor:
    """The executor that runs builds in containers. A position is a frame in the log of one container.

    A second container for the same run never goes unnoticed: the position names the container that it belongs to.
    """

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._engine = Engine(settings)
        self._credentials = CredentialsForBuilds(settings)
        self._log = ContainerLog(self._engine, settings, redact=self._credentials.redaction)

    async def prepare(self) -> None:
        """Do nothing: the first build connects."""

    async def ensure(self, attempt: Attempt) -> None:
        """Create and start the container of the attempt's run, unless it exists.

        Raise `BinderyError("builder_image_unavailable")` if the engine has no builder image and can't pull it.
        """
        if attempt.credential:
            self._credentials.redaction.learn(attempt.credential.secrets)
        name = container_name(attempt)
        state = await self._inspect(name) or await self._create(name, attempt)
        if state.status == "created":
            await self._copy_input(name, attempt)
            await self._start(name)
        elif attempt.epoch > state.epoch:
            # Another worker gave the container its credentials: learn them too, to blank them in its log.
            with contextlib.suppress(ExecutorUnavailableError):
                await self._credentials.for_image(attempt.image)
            await self._raise_epoch(name, attempt.epoch)

    async def _create(self, name: str, attempt: Attempt) -> ContainerState:
        body = specification(attempt, self._settings, environment(attempt, self._settings))
        try:
            await self._post_create(name, body)
        except EngineError as error:
            # An engine that shuts down has removed its socket already, one that starts creates it soon.
            if _NO_SOCKET in str(error):
                raise ExecutorUnavailableError(str(error)) from error
            if error.status != 404:  # any other refusal would be repeated
                log.error("engine_refuses", doing="create", container=name, error=str(error))
                raise BinderyError("internal", "The engine refuses to make the build's container.") from error
            await self._pull()
            await self._post_create(name, body)

        # The name of a new container is taken before the container can be inspected.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.docker_read_seconds):
                while (state := await self._inspect(name)) is None:
                    await asyncio.sleep(_BATCH_SECONDS)
                return state
        raise ExecutorUnavailableError(f"the container {name} can't be found")

    async def _post_create(self, name: str, body: object) -> None:
        try:
            await self._engine.call("POST", "/containers/create", query={"name": name}, body=body)
        except EngineError as error:
            if error.status != 409:  # another worker was faster
                raise

    async def _pull(self) -> None:
        image = self._settings.builder_image
        try:
            failure = await self._engine.pull(image)
        except (EngineError, EngineFailedError, aiohttp.SocketTimeoutError) as error:
            failure = str(error)
        if failure:
            log.error("builder_image_unavailable", image=image, error=failure)
            raise BinderyError("builder_image_unavailable", "The engine has no builder image, and can't pull it.")

    async def _copy_input(self, name: str, attempt: Attempt) -> None:
        config = config_text(attempt, self._settings)
        variables = environment(attempt, self._settings)
        credentials = await self._credentials.for_image(attempt.image)
        archive = input_files(
            epoch=attempt.epoch, config=config, environment=variables, docker_config=credentials.config_json,
            owner=self._settings.build_owner,
        )  # fmt: skip
        with _gone_is_unavailable(name):
            await self._put_archive(name, archive)

    async def _start(self, name: str) -> None:
        with _gone_is_unavailable(name):
            await self._engine.call("POST", f"/containers/{name}/start")

    async def _raise_epoch(self, name: str, epoch: int) -> None:
        if epoch > await self._epoch(name):
            with _gone_is_unavailable(name):
                await self._put_archive(name, epoch_file(epoch))

    async def _put_archive(self, name: str, archive: bytes) -> None:
        await self._engine.call("PUT", f"/containers/{name}/archive", query={"path": "/"}, body=archive)

    async def _epoch(self, name: str) -> int:
        """Return the highest claim that asked for a container; 0 if the container, or its file, can't be read."""
        try:
            return read_epoch(await self._engine.read(f"/containers/{name}/archive", query={"path": EPOCH}))
        except (EngineError, tarfile.TarError, KeyError, ValueError):
            return 0

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the container's log in batches of 50 ms or 64 KiB, and how it ended.

        Raise `ExecutionVanishedError` if the container is gone, or is not the one of the position.
        """
        name = container_name(attempt)
        at = ContainerLogPosition.parse(position)
        end_read_by = float("inf")
        while True:
            # Inspected before its log is read: if it has ended by now, the log below is complete.
            state = await self._inspect(name)
            if state is None:
                raise ExecutionVanishedError(f"the container {name} is gone")
            if at.container not in {"", state.id}:
                await self._remove(state.id)
                raise ExecutionVanishedError(f"the container {name} was removed")
            if state.status == "created":
                raise ExecutorUnavailableError(f"the container {name} has not started")
            if state.is_ended:
                end_read_by = min(end_read_by, time.monotonic() + self._settings.build_log_end_seconds)

            at = ContainerLogPosition(state.id, at.stamp, at.count)
            try:
                async for lines, reached in self._log.read(at, is_followed=not state.is_ended):
                    at = reached
                    yield Batch(lines, str(at))
            except UnreadableLogError as error:
                log.warning("container_log_unreadable", container=name, error=str(error))
                if time.monotonic() < end_read_by:
                    await asyncio.sleep(_UNREADABLE_SECONDS)
                    continue
                yield Batch((Line("gap", _LOST_END),), str(at))

            if state.is_ended:
                yield await self._result(state)
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _result(self, state: ContainerState) -> Finished:
        """Return how an ended container's build ended, from its exit status and the tail of its log."""
        if state.exit_code == 0:
            return Finished(ok=True)

        tail = await self._log.tail(state.id)
        lines = list(tail or ())
        if state.error:
            lines.append(state.error.encode())
        result = classify_exit(
            state.exit_code,
            lines,
            is_tail_read=tail is not None,
            is_out_of_memory=state.is_out_of_memory,
            memory_limit=self._settings.build_memory_limit,
        )
        message = result.error_message and self._credentials.redaction(result.error_message)
        return replace(result, error_message=message)

    async def stop(self, attempt: Attempt) -> None:
        """Kill the attempt's containers, which stay until they are removed; a claim that was superseded stops nothing.

        The build in the engine ends with its client in the container.
        """
        for state in await self._list(attempt.build_id):
            if attempt.epoch < max(state.epoch, await self._epoch(state.id)):
                continue
            with contextlib.suppress(EngineError):  # gone, or ended: 404, 409
                if state.status == "created":  # a paused worker could still start it
                    await self._remove(state.id)
                else:
                    await self._engine.call("POST", f"/containers/{state.id}/kill")
                    await self._engine.call("POST", f"/containers/{state.id}/wait")

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return the attempts of this installation that have containers in the engine, or those at one image."""
        executions: dict[str, Execution] = {}
        for state in await self._list(image_key=image_key):
            epoch = state.epoch
            if state.is_alive:
                epoch = max(epoch, await self._epoch(state.id))
            other = executions.get(state.build_id, Execution(state.build_id, 0, is_alive=False))
            executions[state.build_id] = Execution(
                state.build_id, max(other.epoch, epoch), is_alive=other.is_alive or state.is_alive
            )
        return list(executions.values())

    async def remove(self, build_id: str) -> None:
        """Remove an attempt's ended containers with their logs. A living one stays."""
        for state in await self._list(build_id):
            if not state.is_alive:
                await self._remove(state.id)

    async def aclose(self) -> None:
        """Close connections; containers go on."""
        await self._credentials.aclose()
        await self._engine.aclose()

    async def health_problem(self) -> str | None:
        """Return a sentence if the engine does not answer."""
        try:
            await self._engine.call("GET", "/_ping")
        except (EngineError, ExecutorUnavailableError) as error:
            return f"the container engine at {self._settings.docker_host} does not answer: {error}"
        return None

    async def _inspect(self, name: str) -> ContainerState | None:
        try:
            return ContainerState.inspected(await self._engine.call("GET", f"/containers/{name}/json"))
        except EngineError as error:
            if error.status == 404:
                return None
            raise ExecutorUnavailableError(str(error)) from error
        except _UNREADABLE as error:
            raise ExecutorUnavailableError(f"what the engine says of {name} can't be read ({error!r})") from error

    async def _list(self, build_id: str = "", *, image_key: str = "") -> Sequence[ContainerState]:
        """Return this installation's containers: all, or those of one attempt, or of one image."""
        labels = [
            f"{INSTALLATION}={self._settings.installation_id}",
            f"{EXECUTION}={build_id}" if build_id else EXECUTION,
        ]
        if image_key:
            labels.append(f"{IMAGE_KEY}={image_key}")

        query = {"all": "1", "filters": json.dumps({"label": labels})}
        try:
            entries = await self._engine.call("GET", "/containers/json", query=query)
        except EngineError as error:
            raise ExecutorUnavailableError(str(error)) from error

        states: list[ContainerState] = []
        for entry in entries or []:
            try:
                state = ContainerState.listed(entry)
            except _UNREADABLE as error:  # one container, which may be anybody's, keeps no other from being listed
                log.warning("container_unreadable", error=repr(error))
                continue
            if state:
                states.append(state)
        return states

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(EngineError):  # gone, or about to be: 404, 409
            await self._engine.call("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"})


@contextlib.contextmanager
def _gone_is_unavailable(name: str) -> Iterator[None]:
    """Raise `ExecutorUnavailableError` for a container that is gone, `BinderyError("internal")` for a refusal."""
    try:
        yield
    except EngineError as error:
        if error.status == 404:
            raise ExecutorUnavailableError(f"the container {name} is gone: it is made again") from error
        log.error("engine_refuses", doing="run", container=name, error=str(error))
        raise BinderyError("internal", "The engine refuses to run the build's container.") from error
