"""Builds, as the API sees them: an image is asked for, and there is an attempt, an image, or a remembered failure."""

import time

from services.builder.executors.image_place import image_place
from services.builder.image_names import image_name
from services.builder.images import ImageLookup
from services.builder.queue.attempts import Attempts, topic_of
from services.builder.queue.log_excerpt import LogLine, Part
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import Build, BuildInput, BuildQueue, BuildRequest, BuildState, WorkerSlots
from services.common.models.error_codes import AUTHOR_CODES
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.records.launch_cache import CachedImage
from services.common.redis.keys import Kind
from services.common.service.logging import get_logger
from services.common.streams.entries import Entry
from services.common.streams.event_format import PLAIN
from services.common.streams.log_store import stream_entries
from services.common.streams.topic_stream import TopicStream

log = get_logger(__name__)

ASKED_BY_ANOTHER = (
    "This build was asked for by itself: only who asked for it may cancel it, with the same session or "
    "Idempotency-Key, while nobody else wants it; or the operator."
)


class Builds:
    """Finds, begins, reads and cancels builds."""

    def __init__(
        self, context: ProcessContext, settings: BuilderSettings, attempts: Attempts, images: ImageLookup
    ) -> None:
        self._context, self._settings = context, settings
        self._attempts, self._images = attempts, images
        self._cancels = CancelRequests(context.records, Kind.BUILD, context.keys.wake("builder"))

    async def ensure(self, request: BuildRequest) -> Build:
        """The build of a repository's image: on its way, there already, lately failed, or queued just now.

        Raises `BinderyError`: `registry_unavailable` when nobody can say whether the image exists,
        `build_queue_full` when too many builds wait.
        """
        repo = request.repo
        image = image_name(self._settings.image_prefix, BuildInput.of(repo))
        current = await self._attempts.current(image)
        if current and current.is_live:
            return await self._join(current, request)
        asked_at = time.time()
        if request.past_cache:
            await self._context.launch_cache.forget_image(repo)
        if found := await self._images.find(image):
            known = current if current and current.state is BuildState.BUILT else None
            fact = CachedImage(image=image, digest=found.digest, build_id=known and known.build_id, asked_at=asked_at)
            await self._context.launch_cache.store_image(repo, fact, image_place(self._settings))
            return known.updated(digest=found.digest) if known else self._already_there(image, found.digest, request)
        if current and self._is_remembered(current) and request.replaces != current.build_id:
            return current
        build = await self._attempts.start(image, request, after=current.build_id if current else None)
        log.info("build_queued", build_id=build.build_id, image=image, launch_ref=request.launch_ref)
        return build if request.launch_ref else await self._join(build, request)

    async def _join(self, build: Build, request: BuildRequest) -> Build:
        if build.build_id:
            await self._attempts.join(build.build_id, request.launch_ref or "", request.asker or "")
        return build

    def _already_there(self, image: str, digest: str | None, request: BuildRequest) -> Build:
        now = time.time()
        return Build(
            build_id=None, image=image, digest=digest, state=BuildState.BUILT,
            repo_url=request.repo.repo_url, ref=request.repo.ref, created_at=now, finished_at=now,
        )  # fmt: skip

    def _is_remembered(self, build: Build) -> bool:
        if build.state is not BuildState.FAILED or build.error is None or build.error.code not in AUTHOR_CODES:
            return False
        return time.time() - (build.finished_at or 0) < self._settings.build_failure_memory_seconds

    async def read(self, build_id: str) -> Build:
        """A build by its id. Raises `BinderyError("not_found")`."""
        if (found := await self._attempts.read(build_id)) is None:
            raise BinderyError("not_found", f"There is no build {build_id}, or it was too long ago.")
        return await self.placed(found[0])

    async def placed(self, build: Build) -> Build:
        """A build with its place in the queue, while it waits for a slot."""
        if build.state is not BuildState.QUEUED or not build.build_id:
            return build
        place = (await self._context.queue_positions.of(build.build_id)).get(build.build_id)
        return build.updated(queue=place.queue if place else None)

    def events(self, build_id: str) -> TopicStream:
        """What happens to a build, from its beginning or any position on."""
        context = self._context
        return TopicStream(
            bus=context.bus,
            logs=context.logs,
            topic=topic_of(build_id),
            form=PLAIN,
            prefix=build_id,
            queue_positions=context.queue_positions,
        )

    async def queue(self, *, with_names: bool = False) -> BuildQueue:
        """How the queue stands; `with_names` says which worker is which."""
        keys = self._context.keys
        names = [keys("{queue}:waiting"), keys("{queue}:running"), keys("slots")]
        depth, oldest_ms, running, *rest = await self._attempts.scripts.run("queue", names, [keys.prefix])
        workers = [
            WorkerSlots(name=name.decode() if with_names else None, slots=slots, running=owned)
            for name, slots, owned in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        return BuildQueue(
            depth=depth,
            oldest_waiting_seconds=max(0.0, time.time() - int(oldest_ms) / 1000) if oldest_ms else None,
            running=running,
            capacity=min(self._settings.build_capacity, sum(worker.slots for worker in workers)),
            workers=workers,
        )

    async def log(self, build_id: str, part: Part) -> list[LogLine]:
        """A part of what a build has said so far. Raises `BinderyError("not_found")`, `ValueError` for no position."""
        return part.of(await self._entries(build_id, part.entry))

    async def _entries(self, build_id: str, after: str) -> list[Entry]:
        """What is stored of a log, beyond a position: in its stream, or in the log store once it has ended."""
        if await self._context.redis.exists(self._context.keys.events(topic_of(build_id))):
            return await stream_entries(self._context.redis, self._context.keys, topic_of(build_id), after)
        if (found := await self._context.logs.read(build_id, after)) is None:
            raise BinderyError("not_found", f"No log of build {build_id} is kept here.")
        return found

    async def leave(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """A launch waits no more for a build; with `stop`, one that nobody waits for ends after a grace."""
        await self._attempts.leave(build_id, launch_ref, stop=stop)

    async def cancel_unwanted(self, build_id: str) -> None:
        """End a build that nobody waits for any more: at once while it is queued, else by asking its worker."""
        error = BinderyError("cancelled", "Nobody waits for this build any more.")
        found = await self._attempts.read(build_id)
        if found and await self._attempts.ask_to_stop(build_id, error):
            await self._end(found[0], error)

    async def cancel(self, build_id: str, *, by_operator: bool, asker: str = "") -> bool:
        """Cancel a build; only the operator may while launches wait for it, and these fail then.

        One that was asked for by itself is cancelled by who asked for it, or by the operator. True when it has ended,
        False when its worker was asked to stop it.

        Raises `BinderyError`: `not_found`, or `conflict` when it has ended or somebody else waits for it.
        """
        build = await self.read(build_id)
        error = BinderyError("cancelled", "The build was cancelled.")
        if by_operator:
            error = BinderyError("build_stopped", "The operator of this Bindery stopped the build.")
        if not await self._attempts.ask_to_stop(build_id, error, asker=asker, although_waited_for=by_operator):
            build = await self.read(build_id)
            if build.is_live and build.waiting:
                raise BinderyError("conflict", f"Launches wait for this build ({build.waiting}): cancel those instead.")
            if build.is_live:
                raise BinderyError("conflict", ASKED_BY_ANOTHER)
        if not build.is_live:
            raise BinderyError("conflict", f"The build is {build.state} already.")
        log.info("build_cancelled", build_id=build_id, code=error.code)
        return await self._end(build, error)

    async def _end(self, build: Build, error: BinderyError) -> bool:
        """End a build that is to stop: at once while nobody owns it, else by its worker, who is woken."""
        ended = await self._attempts.end_queued(build, BuildState.CANCELLED, error)
        if not ended:
            await self._cancels.notify(build.build_id or "")
        return ended
