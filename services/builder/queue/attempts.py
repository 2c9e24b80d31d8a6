"""Attempts at images: a key per image holds the number of the current attempt, and a script starts the next one."""

import re
import time
from collections.abc import Iterable
from typing import NamedTuple

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
from services.common.records.stored_record import RecordUnreadable, StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import ScriptArg, Scripts
from services.common.redis.wrong_type import execute_each
from services.common.service.clock import clock
from services.common.service.correlation import to_fields
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.common.streams.entries import encode_events

log = get_logger(__name__)

_BUILD_ID = re.compile(rb"[\w-]+")


def build_topic(build_id: str) -> Topic:
    """Return the topic of a build."""
    return Topic(Kind.BUILD, build_id)


def build_id_of(name: bytes) -> str | None:
    """Return the id of the build that a list in Redis names; None if it is no id."""
    if _BUILD_ID.fullmatch(name):
        return name.decode()
    log.warning("build_unknown", name=name.decode(errors="replace")[:200])
    return None


class StoredBuild(NamedTuple):
    """A build with the record that it was read from."""

    build: Build
    record: StoredRecord


class Attempts:
    """The attempts at all images, in Redis."""

    def __init__(self, context: ProcessContext, settings: BuilderSettings, executor: Executor) -> None:
        self._context = context
        self._settings = settings
        self._executor = executor
        self._redis = context.redis
        self._keys = context.keys
        self.scripts = Scripts(context.redis, "services.builder.queue.scripts")

    async def read(self, build_id: str) -> StoredBuild | None:
        """Return a build, with the number of launches that wait for it, and its record; None without a record."""
        record = await self._context.records.read(build_topic(build_id))
        if record is None:
            return None

        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.scard(self._keys.waiters(build_id))
            [waiting] = await execute_each(pipe)
        return StoredBuild(record.model(Build).updated(waiting=int(waiting or 0)), record)

    async def read_readable(self, build_id: str) -> StoredBuild | None:
        """Return a build as `read` does; None, too, if this release can't read its record.

        Such a build ends when it was adopted in vain too often, or when its worker ends it.
        """
        try:
            return await self.read(build_id)
        except RecordUnreadable as error:
            log.warning("record_unreadable", noun=error.topic.name, reason=error.reason)
            return None

    async def current(self, image: str) -> Build | None:
        """Return the current attempt at an image; None if no attempt is recorded, or none that can be read."""
        number = await self._redis.get(self._keys.attempt(image_key(image)))
        if number is None:
            return None
        stored = await self.read_readable(f"{image_key(image)}-{int(number)}")
        return stored.build if stored else None

    async def is_superseded(self, build_id: str) -> bool:
        """Return whether a later attempt is recorded, so that this one's number will not be used again."""
        key, _, number = build_id.rpartition("-")
        current = await self._redis.get(self._keys.attempt(key))
        return current is not None and int(current) > int(number)

    async def start(self, image: str, request: BuildRequest, *, after: BuildId | None = None) -> Build:
        """Start the next attempt, or join the one that another caller has just started.

        `after` is the attempt to be followed by another one. If a later attempt exists already, that one is returned,
        even if it has ended: so that many callers at once start one attempt between them.

        Raise `BinderyError("build_queue_full")` if too many builds are waiting.
        """
        key = image_key(image)
        attempt_key = self._keys.attempt(key)
        while True:
            recorded = await self._redis.get(attempt_key)
            current = int(recorded) if recorded is not None else await self._highest(key)
            if after not in {None, f"{key}-{current}"} and (stored := await self.read(f"{key}-{current}")):
                return stored.build

            build = _queued_build(f"{key}-{current + 1}", image, request)
            status, number = await self._run_start(build, request, key=key, current=current)
            if status == b"full":
                raise BinderyError("build_queue_full", f"{self._settings.build_queue_max} builds are already waiting.")
            if status in {b"started", b"live"} and (stored := await self.read(f"{key}-{int(number)}")):
                return stored.build

    async def _run_start(self, build: Build, request: BuildRequest, *, key: str, current: int) -> tuple[bytes, bytes]:
        """Run the script that starts an attempt, if `current` is still the highest number; return its answer."""
        event = Event(phase=Phase.WAITING, message="Waiting for build to start...\n", state=BuildState.QUEUED)

        names = ("waiting", "repos", "version")
        keys = [self._keys.attempt(key), *(self._keys("{queue}:" + name) for name in names)]

        status, number = await self.scripts.run(
            "start",
            keys,
            [
                current, current, self._keys.prefix, key, build.model_dump_json(exclude_none=True),
                encode_events([event]), repository_of(request.repo), request.launch_ref or "",
                self._settings.build_queue_max, int(self._settings.attempt_ttl_seconds * 1000),
                int(build.created_at * 1000), request.repo.model_dump_json(exclude_none=True),
                self._keys.wake("builder"), to_fields().get("request_id", ""), request.asker or "",
                request.credential_id or "",
            ],
        )  # fmt: skip
        return status, number

    async def _highest(self, key: str) -> int:
        """Return the highest attempt at an image that has left a log or an execution, if Redis has no record of any.

        Raise `BinderyError("executor_unavailable")`: a number that was used before would resume an old execution.
        """
        logged = await self._context.logs.highest_attempt(key)
        try:
            executions = await self._executor.list(key)
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", doing="list", error=str(error))
            raise BinderyError("executor_unavailable") from error

        listed = _highest_number(key, (execution.build_id for execution in executions))
        build_id = f"{key}-{listed}"
        if any(execution.is_alive and execution.build_id == build_id for execution in executions):
            await self._wait_for_record(build_id)
        return max(logged, listed)

    async def _wait_for_record(self, build_id: str) -> None:
        """Wait, for the length of a lease, for the record of a running attempt that an emptied Redis has lost.

        A worker that is alive writes the record again by then, and the attempt is joined, instead of starting another
        one beside it. Only that worker may write it: it alone knows how much of the log was published and under which
        positions, so that followers miss nothing and see nothing twice; a claim from elsewhere would fence it off. If
        no worker writes it, none is alive that could follow the attempt, and the next attempt starts.
        """
        deadline = time.monotonic() + self._settings.lease_seconds
        while await self.read(build_id) is None and time.monotonic() < deadline:
            await sleep_unless_cancelled(self._settings.lease_renew_seconds / 10)

    async def join(self, build_id: str, request: BuildRequest) -> None:
        """Add a launch to those that wait for a build, and its credential to those of the build.

        Without a launch, the build goes on when launches leave it. It belongs to the `asker` then, who may cancel
        it unless others have requested it, too.
        """
        topic = build_topic(build_id)
        keys = [self._keys.record(topic), self._keys.waiters(build_id), self._keys("{queue}:abandoned")]
        args = [build_id, request.launch_ref or "", request.asker or "", request.credential_id or ""]
        await self.scripts.run("join", keys, args)

    async def leave(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """Remove a launch from those that wait for a build.

        With `stop`, a build that no launch waits for any more is stopped after a grace.
        """
        stop_at_ms = int((clock.now() + self._settings.build_cancel_grace_seconds) * 1000)
        topic = build_topic(build_id)
        keys = [self._keys.record(topic), self._keys.waiters(build_id), self._keys("{queue}:abandoned")]
        await self.scripts.run("leave", keys, [build_id, launch_ref, stop_at_ms, int(stop)])

    async def request_cancel(
        self, build_id: str, error: BinderyError, *, requester: str = "", even_if_wanted: bool = False
    ) -> bool:
        """Request the cancellation of a build, and verify in the same step that no launch waits for it.

        Return False if one does, or if someone other than the `requester` has requested the build by itself;
        `even_if_wanted` skips this check. `error` is the error that the build will end with.
        """
        keys = [self._keys.record(build_topic(build_id)), self._keys.waiters(build_id)]
        return bool(await self.scripts.run("cancel", keys, [error.detail, error.code, int(even_if_wanted), requester]))

    async def request_cancel_if_abandoned(self, build_id: str, error: BinderyError) -> bool:
        """Request the cancellation of a build whose grace is over, and verify that in the same step.

        Return False if a launch has joined it since, even if that has left again: then it has another grace. The build
        is abandoned until it has ended, so that this may be repeated.
        """
        keys = [
            self._keys.record(build_topic(build_id)), self._keys.waiters(build_id), self._keys("{queue}:abandoned"),
        ]  # fmt: skip
        now_ms = int(clock.now() * 1000)
        return bool(await self.scripts.run("cancel", keys, [error.detail, error.code, 0, "", build_id, now_ms]))

    async def end_queued(self, build: Build, state: BuildState, error: BinderyError) -> bool:
        """End a build that no worker owns. Return False if a worker does, or if the build has ended already."""
        build_id = build.build_id or ""
        topic = build_topic(build_id)
        final_build = build.updated(state=state, error=error.problem, finished_at=clock.now(), queue=None)
        phase = Phase.CANCELLED if state is BuildState.CANCELLED else Phase.FAILED
        event = Event(phase=phase, message=f"{error.detail}\n", state=state, error=error.problem, terminal=True)

        keys = [
            self._keys.record(topic), self._keys.events(topic), self._keys("{queue}:waiting"),
            self._keys("{queue}:running"), self._keys("{queue}:version"), self._keys.waiters(build_id),
            self._keys("{queue}:unstored"), self._keys.orphans("builder"), self._keys("{queue}:abandoned"),
        ]  # fmt: skip
        args: list[ScriptArg] = [
            build_id, state, final_build.model_dump_json(exclude_none=True), encode_events([event]),
            self._keys.news(topic), int(self._settings.record_ttl_seconds * 1000),
            int(self._settings.finished_stream_seconds * 1000),
        ]  # fmt: skip

        return bool(await self.scripts.run("end_queued", keys, args))


def _queued_build(build_id: str, image: str, request: BuildRequest) -> Build:
    return Build(
        build_id=BuildId(build_id),
        image=image,
        state=BuildState.QUEUED,
        repo_url=request.repo.repo_url,
        ref=request.repo.ref,
        created_at=clock.now(),
    )


def _highest_number(key: str, build_ids: Iterable[str]) -> int:
    """Return the highest number among the build ids of one image; 0 if there is none."""
    numbers = [0]
    for build_id in build_ids:
        name, _, number = build_id.rpartition("-")
        if name == key and number.isascii() and number.isdigit():
            numbers.append(int(number))
    return max(numbers)
