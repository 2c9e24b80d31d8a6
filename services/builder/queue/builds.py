"""Builds as the API shows them: a request for an image yields an attempt, an existing image, or a recent failure."""

from services.builder.executors.image_store import image_store_id
from services.builder.image_names import image_name
from services.builder.images import ImageLookup
from services.builder.queue.attempts import Attempts, build_topic
from services.builder.queue.log_excerpt import LogExcerpt, LogLine
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import Build, BuildInput, BuildQueue, BuildRequest, BuildState, WorkerSlots
from services.common.models.error_codes import AUTHOR_CODES
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.records.launch_cache import CachedImage
from services.common.redis.keys import Kind
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.streams.entries import Entry
from services.common.streams.event_format import PLAIN
from services.common.streams.log_store import stream_entries
from services.common.streams.topic_stream import TopicStream

log = get_logger(__name__)

REQUESTED_BY_ANOTHER = (
    "This build was requested without a launch: only the client that requested it may cancel it, with the same session "
    "or Idempotency-Key and while nobody else wants the build. The operator may cancel it, too."
)


class Builds:
    """All builds: to request, read, follow and cancel."""

    def __init__(
        self, *, context: ProcessContext, settings: BuilderSettings, attempts: Attempts, images: ImageLookup
    ) -> None:
        self._context = context
        self._settings = settings
        self._attempts = attempts
        self._images = images
        self._cancels = CancelRequests(context.records, Kind.BUILD, context.keys.wake("builder"))

    async def ensure(self, request: BuildRequest) -> Build:
        """Return the build of a repository's image: under way, existing, recently failed, or queued by this call.

        Raise `BinderyError`: `registry_unavailable` if it can't be determined whether the image exists,
        `build_queue_full` if too many builds are waiting.
        """
        repo = request.repo
        image = image_name(self._settings.image_prefix, BuildInput.of(repo))
        current = await self._attempts.current(image)
        if current and current.is_live:
            return await self._join(current, request)

        asked_at = clock.now()
        if request.past_cache:
            await self._context.launch_cache.withdraw_image(repo)
        if existing := await self._images.find(image):
            finished = current if current and current.state is BuildState.BUILT else None
            cached_image = CachedImage(
                image=image, digest=existing.digest, build_id=finished and finished.build_id, asked_at=asked_at
            )
            await self._context.launch_cache.store_image(repo, cached_image, image_store_id(self._settings))
            if finished:
                return finished.updated(digest=existing.digest)
            return self._existing(image, existing.digest, request)

        if current and self._is_remembered_failure(current) and request.replaces != current.build_id:
            return current

        build = await self._attempts.start(image, request, after=current.build_id if current else None)
        log.info("build_queued", build_id=build.build_id, image=image, launch_ref=request.launch_ref)
        return build if request.launch_ref else await self._join(build, request)

    async def _join(self, build: Build, request: BuildRequest) -> Build:
        if build.build_id:
            await self._attempts.join(build.build_id, request)
        return build

    def _existing(self, image: str, digest: str | None, request: BuildRequest) -> Build:
        """Return a finished build without an id, for an image that was not built here."""
        now = clock.now()
        return Build(
            build_id=None, image=image, digest=digest, state=BuildState.BUILT,
            repo_url=request.repo.repo_url, ref=request.repo.ref, created_at=now, finished_at=now,
        )  # fmt: skip

    def _is_remembered_failure(self, build: Build) -> bool:
        """Return whether a build failed recently, for a reason that only the author can remove."""
        if build.state is not BuildState.FAILED or build.error is None or build.error.code not in AUTHOR_CODES:
            return False
        return clock.now() - (build.finished_at or 0) < self._settings.build_failure_memory_seconds

    async def read(self, build_id: str) -> Build:
        """Return a build by its id. Raise `BinderyError("not_found")`."""
        stored = await self._attempts.read(build_id)
        if stored is None:
            raise BinderyError("not_found", f"There is no build {build_id}, or it was too long ago.")
        return await self.with_queue_position(stored.build)

    async def with_queue_position(self, build: Build) -> Build:
        """Return a build with its position in the queue, if it waits for a slot."""
        if build.state is not BuildState.QUEUED or not build.build_id:
            return build
        position = (await self._context.queue_positions.of(build.build_id)).get(build.build_id)
        return build.updated(queue=position.queue if position else None)

    def events(self, build_id: str) -> TopicStream:
        """Return the event stream of a build."""
        context = self._context
        return TopicStream(
            bus=context.bus,
            logs=context.logs,
            topic=build_topic(build_id),
            form=PLAIN,
            prefix=build_id,
            queue_positions=context.queue_positions,
        )

    async def queue(self, *, with_names: bool = False) -> BuildQueue:
        """Return the state of the queue, with the names of the workers if `with_names`."""
        keys = self._context.keys
        queue_keys = [keys("{queue}:waiting"), keys("{queue}:running"), keys("slots")]
        depth, oldest_ms, running, *rest = await self._attempts.scripts.run("queue", queue_keys, [keys.prefix])

        oldest_waiting_seconds = max(0.0, clock.now() - int(oldest_ms) / 1000) if oldest_ms else None
        workers = [
            WorkerSlots(name=name.decode() if with_names else None, slots=slots, running=owned)
            for name, slots, owned in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        return BuildQueue(
            depth=depth,
            oldest_waiting_seconds=oldest_waiting_seconds,
            running=running,
            capacity=min(self._settings.build_capacity, sum(worker.slots for worker in workers)),
            workers=workers,
        )

    async def log(self, build_id: str, excerpt: LogExcerpt) -> list[LogLine]:
        """Return an excerpt of a build's log so far.

        Raise `BinderyError("not_found")`, and `ValueError` if the excerpt begins at something that is not a position.
        """
        return excerpt.of(await self._entries(build_id, excerpt.after_entry))

    async def _entries(self, build_id: str, after: str) -> list[Entry]:
        """Return the entries of a log after a position: from its stream, or from the log store once that has gone."""
        topic = build_topic(build_id)
        streamed = await stream_entries(self._context.redis, self._context.keys, topic, after)
        if await self._context.redis.exists(self._context.keys.events(topic)):  # so it was there, whole, as it was read
            return streamed

        stored = await self._context.logs.read(build_id, after)
        if stored is None:
            raise BinderyError("not_found", f"No log of build {build_id} is kept here.")
        return stored

    async def leave(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """Remove a launch from those that wait for a build; with `stop`, one without any is stopped after a grace."""
        await self._attempts.leave(build_id, launch_ref, stop=stop)

    async def cancel_if_abandoned(self, build_id: str) -> None:
        """Cancel a build if its grace is over: at once while it is queued, else through its worker."""
        error = BinderyError("cancelled", "Nobody waits for this build any more.")
        if not await self._attempts.request_cancel_if_abandoned(build_id, error):
            return
        if stored := await self._attempts.read_readable(build_id):
            await self._end(stored.build, error)

    async def cancel(self, build_id: str, *, by_operator: bool, requester: str = "") -> bool:
        """Cancel a build; return True if it has ended, False if its worker was asked to stop it.

        While launches wait for it, only the operator may cancel it, and the launches fail. A build that was requested
        by itself may be cancelled by its `requester`, or by the operator.

        Raise `BinderyError`: `not_found`, or `conflict` if it had ended before, or if others wait for it.
        """
        build = await self.read(build_id)
        error = BinderyError("cancelled", "The build was cancelled.")
        if by_operator:
            error = BinderyError("build_stopped", "The operator of this Bindery stopped the build.")

        if not await self._attempts.request_cancel(build_id, error, requester=requester, even_if_wanted=by_operator):
            build = await self.read(build_id)
            if build.is_live and build.waiting:
                raise BinderyError("conflict", f"Launches wait for this build ({build.waiting}): cancel those instead.")
            if build.is_live:
                raise BinderyError("conflict", REQUESTED_BY_ANOTHER)
        if not build.is_live:
            raise BinderyError("conflict", f"The build is {build.state} already.")

        log.info("build_cancelled", build_id=build_id, code=error.code)
        return await self._end(build, error)

    async def _end(self, build: Build, error: BinderyError) -> bool:
        """End a build whose cancellation was requested: at once if no worker owns it, else by waking its worker."""
        has_ended = await self._attempts.end_queued(build, BuildState.CANCELLED, error)
        if not has_ended:
            await self._cancels.notify(build.build_id or "")
        return has_ended
