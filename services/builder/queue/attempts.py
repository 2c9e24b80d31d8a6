"""Attempts: one key an image names the current one, and a script begins the next."""

import time
from collections.abc import Iterable

from services.builder.executors.base import Executor, ExecutorUnavailableError
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.git.repository_url import repository_of
from services.common.models import (
    Build,
    BuildId,
    BuildRequest,
    BuildState,
    Event,
    Phase,
    image_key,
)
from services.common.models.errors import BinderyError
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import ScriptArg, Scripts
from services.common.service.correlation import to_fields
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.entries import encode_events

log = get_logger(__name__)


def topic_of(build_id: str) -> Topic:
    """The topic of a build."""
    return Topic(Kind.BUILD, build_id)


class Attempts:
    """Reads and begins attempts."""

    def __init__(self, context: ProcessContext, settings: BuilderSettings, executor: Executor) -> None:
        self._context, self._settings, self._executor = context, settings, executor
        self._keys = context.keys
        self.scripts = Scripts(context.redis, "services.builder.queue.scripts")

    async def read(self, build_id: str) -> tuple[Build, StoredRecord] | None:
        """A build by its id, with the number of launches that wait for it."""
        if (stored := await self._context.records.read(topic_of(build_id))) is None:
            return None
        waiting = await self._context.redis.scard(self._keys.waiters(build_id))
        return stored.model(Build).updated(waiting=int(waiting)), stored

    async def current(self, image: str) -> Build | None:
        """The current attempt at an image, or None where none is remembered."""
        number = await self._context.redis.get(self._keys.attempt(image_key(image)))
        if number is None:
            return None
        found = await self.read(f"{image_key(image)}-{int(number)}")
        return found[0] if found else None

    async def is_superseded(self, build_id: str) -> bool:
        """Whether an attempt after this one is remembered, so that its number will not be given again."""
        key, _, attempt = build_id.rpartition("-")
        number = await self._context.redis.get(self._keys.attempt(key))
        return number is not None and int(number) > int(attempt)

    async def start(self, image: str, request: BuildRequest, *, after: BuildId | None = None) -> Build:
        """Begin the next attempt, or join the one that someone else has just begun.

        `after` is the attempt that is to be followed by another: one that was begun meanwhile is returned even if it
        has ended already, so that many who ask at once begin one.

        Raises `BinderyError("build_queue_full")` when too many wait already.
        """
        key = image_key(image)
        names = ("waiting", "repos", "version")
        queue_keys = [self._keys("{queue}:" + name) for name in names]
        attempt_key = self._keys.attempt(key)
        while True:
            number = await self._context.redis.get(attempt_key)
            current = int(number) if number is not None else await self._highest(key)
            if after not in {None, f"{key}-{current}"} and (read := await self.read(f"{key}-{current}")):
                return read[0]
            now = time.time()
            repository = repository_of(request.repo)
            build = Build(
                build_id=BuildId(f"{key}-{current + 1}"),
                image=image,
                state=BuildState.QUEUED,
                repo_url=request.repo.repo_url,
                ref=request.repo.ref,
                created_at=now,
            )
            event = Event(phase=Phase.WAITING, message="Waiting for build to start...\n", state=BuildState.QUEUED)
            status, found = await self.scripts.run(
                "start",
                [attempt_key, *queue_keys],
                [
                    current, current, self._keys.prefix, key, build.model_dump_json(exclude_none=True),
                    encode_events([event]), repository, request.launch_ref or "", self._settings.build_queue_max,
                    int(self._settings.attempt_ttl_seconds * 1000), int(now * 1000),
                    request.repo.model_dump_json(exclude_none=True), self._keys.wake("builder"),
                    to_fields().get("request_id", ""), request.asker or "",
                ],
            )  # fmt: skip
            if status == b"full":
                raise BinderyError("build_queue_full", f"{self._settings.build_queue_max} builds wait already.")
            if status in {b"started", b"live"} and (read := await self.read(f"{key}-{int(found)}")):
                return read[0]

    async def _highest(self, key: str) -> int:
        """The highest attempt that left a trace, where Redis remembers none.

        Raises `BinderyError("executor_unavailable")`: a number that was given before would take up an old execution.
        """
        logged = await self._context.logs.highest_attempt(key)
        try:
            listed = await self._executor.list(key)
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", doing="list", error=str(error))
            raise BinderyError("executor_unavailable") from error
        highest = _highest_of(key, (execution.build_id for execution in listed))
        if any(execution.is_alive and execution.build_id == f"{key}-{highest}" for execution in listed):
            await self._until_told_again(f"{key}-{highest}")
        return max(logged, highest)

    async def _until_told_again(self, build_id: str) -> None:
        """Wait for the record of an attempt that runs, which an emptied Redis lost, for as long as a lease lasts.

        A worker that lives writes it anew by then, and the attempt is joined, rather than another begun beside it.
        Nobody else may write it: only its worker knows how far the log was told and under which positions, so that
        followers miss nothing and see nothing twice, and a claim from elsewhere would fence it off. Where no worker
        tells of it, none lives that could follow it, and the next attempt begins.
        """
        deadline = time.monotonic() + self._settings.lease_seconds
        while await self.read(build_id) is None and time.monotonic() < deadline:
            await sleep_unless_cancelled(self._settings.lease_renew_seconds / 10)

    async def join(self, build_id: str, launch_ref: str, asker: str = "") -> None:
        """Count a launch among those that wait for a build; without one, the build goes on whoever leaves it.

        It is the `asker`'s then, who may cancel it, unless others want it, too.
        """
        topic = topic_of(build_id)
        keys = [self._keys.record(topic), self._keys.waiters(build_id), self._keys("{queue}:abandoned")]
        await self.scripts.run("join", keys, [build_id, launch_ref, asker])

    async def leave(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """A launch waits no more. With `stop`, a build that nobody waits for ends after a grace."""
        due = int((time.time() + self._settings.build_cancel_grace_seconds) * 1000)
        topic = topic_of(build_id)
        keys = [self._keys.record(topic), self._keys.waiters(build_id), self._keys("{queue}:abandoned")]
        await self.scripts.run("leave", keys, [build_id, launch_ref, due, int(stop)])

    async def ask_to_stop(
        self, build_id: str, error: BinderyError, *, asker: str = "", although_waited_for: bool = False
    ) -> bool:
        """Ask for a build to be stopped, in the step that finds that nobody waits for it. False when somebody does.

        Who wants it for itself waits for it, too, unless that is the `asker`. `error` is what it is to end with.
        """
        keys = [self._keys.record(topic_of(build_id)), self._keys.waiters(build_id)]
        return bool(await self.scripts.run("cancel", keys, [error.detail, error.code, int(although_waited_for), asker]))

    async def end_queued(self, build: Build, state: BuildState, error: BinderyError) -> bool:
        """End a build that nobody owns. False when somebody does, or it has ended already."""
        build_id = build.build_id or ""
        topic = topic_of(build_id)
        ended = build.updated(state=state, error=error.problem, finished_at=time.time(), queue=None)
        phase = Phase.CANCELLED if state is BuildState.CANCELLED else Phase.FAILED
        event = Event(phase=phase, message=f"{error.detail}\n", state=state, error=error.problem, terminal=True)
        keys = [
            self._keys.record(topic), self._keys.events(topic), self._keys("{queue}:waiting"),
            self._keys("{queue}:running"), self._keys("{queue}:version"), self._keys.waiters(build_id),
            self._keys("{queue}:unstored"), self._keys.orphans("builder"),
        ]  # fmt: skip
        args: list[ScriptArg] = [
            build_id, state, ended.model_dump_json(exclude_none=True), encode_events([event]),
            self._keys.news(topic), int(self._settings.record_ttl_seconds * 1000),
            int(self._settings.finished_stream_seconds * 1000),
        ]  # fmt: skip
        return bool(await self.scripts.run("end_queued", keys, args))


def _highest_of(key: str, build_ids: Iterable[str]) -> int:
    split = (build_id.rpartition("-") for build_id in build_ids)
    return max(
        (int(number) for name, _, number in split if name == key and number.isascii() and number.isdigit()), default=0
    )
