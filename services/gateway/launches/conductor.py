"""The conductor: the story of a launch, from link to running server.

`conduct` is that story. Each of its steps writes what it has done into the launch's record, which followers read, so
that another gateway can go on with the launch at any point.
"""

import contextlib
from typing import Any

from prometheus_client import Counter, Histogram

from services.common.context import ProcessContext
from services.common.models import (
    Build,
    BuildRequest,
    BuildState,
    Event,
    Launch,
    LaunchState,
    Phase,
    Problem,
    Queue,
    ResolvedRepo,
    Server,
    ServerRequest,
    ServerState,
    TopicRef,
)
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.records.launch_cache import CachedAnswers, CachedImage
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import RecordUnreadable
from services.common.redis.keys import Kind, Topic
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.streams.entries import StreamEvent
from services.common.streams.positions import STREAM_START
from services.gateway.backends import Backends
from services.gateway.launches.launch_checks import resolve_and_check
from services.gateway.launches.outages import WasRedisAwaySince, outlast_outages
from services.gateway.launches.side_effects import LaunchSideEffects
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

LAUNCHES_ENDED = Counter("bindery_launches_total", "Launches that ended, by outcome", ["outcome"])
LAUNCH_SECONDS = Histogram(
    "bindery_launch_seconds", "Time from request to end, in seconds", ["outcome"],
    buckets=(0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
)  # fmt: skip


class Conductor:
    """Takes one launch, whose record this process owns, from its link to a running server."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        backends: Backends,
        settings: GatewaySettings,
        was_redis_away_since: WasRedisAwaySince,
        record: OwnedRecord,
        launch: Launch,
        cached: CachedAnswers,
    ) -> None:
        self._context = context
        self._backends = backends
        self._settings = settings
        self._was_redis_away_since = was_redis_away_since
        self._cached = cached
        self._has_waited_for_build = False
        self._leaves_build = False

        self.record = record
        """The launch's record; every write to it goes through here."""
        self.launch = launch
        """The launch as it was last written, or is about to be."""
        self.server: Server | None = None
        """The ready server; None until then, and if its record has to be read."""
        self.side_effects = LaunchSideEffects(
            backends=backends,
            was_redis_away_since=was_redis_away_since,
            server_cancels=CancelRequests(context.records, Kind.SERVER, context.keys.wake("launcher")),
            resource_class=launch.options.resource_class,
            launch_epoch=record.epoch,
        )
        """Requests to builder and launcher, which are undone if the launch fails."""

    async def conduct(self) -> None:
        """Conduct the launch until its server is ready.

        Cancelling leaves the launch to another gateway.

        Raise `BinderyError` if the launch fails: the caller then calls `fail`.
        """
        repo = await self._resolve()
        image = await self._find_or_build_image(repo)
        while not await self._start_server(repo, image):
            image = await self._find_or_build_image(repo)

        self.launch = self.launch.updated(state=LaunchState.READY, queue=None)
        await self._finish(Event(phase=Phase.READY, state=LaunchState.READY, terminal=True))

    async def fail(self, error: BinderyError, state: LaunchState = LaunchState.FAILED) -> None:
        """End the launch with an error, which its followers read."""
        self._leaves_build = self.launch.state is LaunchState.BUILDING
        self.launch = self.launch.updated(state=state, error=error.problem, queue=None)
        phase = Phase.CANCELLED if state is LaunchState.CANCELLED else Phase.FAILED
        message = f"{error.detail}\n"
        await self._finish(Event(phase=phase, message=message, state=state, error=error.problem, terminal=True))

    # Step 1: the repository that the link names

    async def _resolve(self) -> ResolvedRepo:
        if self.launch.repo:  # another gateway has resolved and checked it
            return self.launch.repo

        repo = await outlast_outages(
            lambda: resolve_and_check(self.launch, self._backends, self._settings, cached=self._cached.repo),
            was_redis_away_since=self._was_redis_away_since,
        )
        self.launch = self.launch.updated(repo=repo)
        if repo.notice:
            await self._publish(Event(phase=Phase.WAITING, message=f"{repo.notice}\n"))
        return repo

    # Step 2: its image

    async def _find_or_build_image(self, repo: ResolvedRepo) -> CachedImage:
        if self.launch.image and self.launch.state in {LaunchState.WAITING, LaunchState.LAUNCHING}:
            return CachedImage(image=self.launch.image, digest=self.launch.digest, asked_at=0.0)
        if self.launch.rebuilt:  # the registry no longer had the image, whatever the cache says
            return await self._build(self._build_request(repo=repo, past_cache=True))

        failed_build_id = self.launch.options.rebuild
        if not failed_build_id:
            image = self._cached.image or await self._context.launch_cache.find_image(repo)
            if image:
                return image
        return await self._build(self._build_request(repo=repo, replaces=failed_build_id))

    def _build_request(self, **others: Any) -> BuildRequest:
        return BuildRequest(launch_ref=self.launch.launch_ref, credential_id=self.launch.credential_id, **others)

    async def _build(self, request: BuildRequest) -> CachedImage:
        """Return the image, built if necessary. A build that was lost is requested again, a few times."""
        for attempt in range(1, self._settings.lost_builds_max + 2):
            build = await self._adopted_build() if attempt == 1 else None
            build = build or await self.side_effects.build(request, self._publish_unavailable)
            if build.build_id and build.state is not BuildState.BUILT:
                build = await self._follow_build(build)

            if build.state is BuildState.BUILT:
                self.launch = self.launch.updated(build_id=build.build_id)
                return CachedImage(image=build.image, digest=build.digest, asked_at=clock.now())

            error = BinderyError.of(build.error) if build.error else BinderyError("build_lost")
            # "cancelled": by its other users, before this launch joined it
            if not error.has_code("build_lost", "cancelled"):
                raise error
            log.warning("build_lost", build_id=build.build_id, times=attempt, code=error.code)

        raise BinderyError("build_lost") if error.has_code("cancelled") else error

    async def _adopted_build(self) -> Build | None:
        """Return the present state of the build that another gateway followed for this launch, if there is one."""
        if self.launch.state is not LaunchState.BUILDING or not self.launch.build_id:
            return None
        return await self._read_build(Topic(Kind.BUILD, self.launch.build_id))

    async def _read_build(self, topic: Topic) -> Build | None:
        """Return a build, or None if it is lost: without a record, or with one that this release can't read."""
        stored_record = await self._context.records.read(topic)
        try:
            return stored_record.model(Build) if stored_record else None
        except RecordUnreadable as error:
            log.warning("record_unreadable", noun=topic.name, reason=error.reason)
            return None

    async def _follow_build(self, build: Build) -> Build:
        """Show the build's stream to followers of the launch, wait for its end, and return the ended build."""
        topic = Topic(Kind.BUILD, build.build_id or "")
        if self.launch.build_id != build.build_id or self.launch.state is not LaunchState.BUILDING:
            self.launch = self.launch.updated(state=LaunchState.BUILDING, build_id=build.build_id, image=build.image)
            opens = TopicRef(kind=Kind.BUILD, id=topic.id, after=STREAM_START)
            log_path = self.launch.log_path
            await self._publish(Event(phase=Phase.BUILDING, state=LaunchState.BUILDING, opens=opens, log=log_path))

        if build.is_live:
            self._has_waited_for_build = True
            await self._context.bus.wait_for_end(topic)

        ended_build = await self._read_build(topic)
        self.side_effects.discard_build()
        # The caller takes a failure without an error for a lost build.
        return ended_build or build.updated(state=BuildState.FAILED, error=None)

    # Step 3: its server

    async def _start_server(self, repo: ResolvedRepo, image: CachedImage) -> bool:
        """Start the server and wait until it is ready. Return False if its image is gone: it is built again, once."""
        request = self._server_request(repo, image)
        server = await self.side_effects.start_server(request)
        await self._show_server(server, image)

        terminal_event = await self._wait_for_server(server)
        while terminal_event is None:  # the record was lost with Redis; a launcher that starts it writes it again
            server = await self.side_effects.start_server(request)
            terminal_event = await self._wait_for_server(server)

        if terminal_event.get("state") != ServerState.FAILED:
            # Until the launch is ready too, its failure still stops this server: no `discard_server` here.
            ready_server = server.updated(state=ServerState.READY, expires=terminal_event.get("expires"))
            self.server = None if terminal_event.get("changed") else ready_server
            return True

        self.side_effects.discard_server()
        error = BinderyError("unknown")
        if "error" in terminal_event:
            error = BinderyError.of(Problem.model_validate(terminal_event["error"]))
        if not error.has_code("image_pull_failed") or self.launch.rebuilt:
            raise error

        await self._context.launch_cache.withdraw_image(repo)
        # Without an image: from here on, whoever goes on with the launch builds it first.
        self.launch = self.launch.updated(rebuilt=True, image=None, digest=None)
        return False

    def _server_request(self, repo: ResolvedRepo, image: CachedImage) -> ServerRequest:
        return ServerRequest(
            launch_ref=self.launch.launch_ref,
            launch_id=self.launch.launch_id,
            attempt=int(self.launch.rebuilt),
            repo=repo,
            image=image.image,
            digest=image.digest,
            resource_class=self.launch.options.resource_class,
            launch_host=self.launch.launch_host,
            client_ip=self.launch.client_ip,
        )

    async def _show_server(self, server: Server, image: CachedImage) -> None:
        """Show the server's stream to followers of the launch."""
        if self.launch.server_id == server.server_id:  # another gateway did
            return

        state = LaunchState.WAITING if server.queue else LaunchState.LAUNCHING
        self.launch = self.launch.updated(
            state=state,
            server_id=server.server_id,
            queue=server.queue,
            image=image.image,
            digest=image.digest,
            build_id=image.build_id or self.launch.build_id,
        )
        headline = "Built image" if self._has_waited_for_build else "Found built image"
        message = f"{headline}, launching...\n"
        opens = TopicRef(kind=Kind.SERVER, id=server.server_id, after=STREAM_START)
        await self._publish(Event(phase=Phase.BUILT, message=message, image_name=image.image, state=state, opens=opens))

    async def _wait_for_server(self, server: Server) -> StreamEvent | None:
        """Return the terminal event of the server's topic, or None if the topic was lost."""
        topic = Topic(Kind.SERVER, server.server_id)
        async with contextlib.aclosing(self._context.bus.events(topic)) as events:
            async for entry, event in events:
                # The first entry is the server's creation: `_show_server` has copied its contents.
                if self.launch.state is LaunchState.WAITING and not entry.is_first:
                    await self._copy_queue_position(event)

                if event.get("terminal"):
                    return event
        return None

    async def _copy_queue_position(self, event: StreamEvent) -> None:
        """Write the server's position in the queue into the launch's record; without one, the launch goes on."""
        queue = Queue.model_validate(event["queue"]) if "queue" in event else None
        state = LaunchState.WAITING if queue else LaunchState.LAUNCHING
        self.launch = self.launch.updated(state=state, queue=queue)
        await self.record.write(body=self.launch)

    # The launch's record and events

    async def _publish_unavailable(self, error: BinderyError) -> None:
        await self._publish(Event(phase=Phase.WAITING, message=f"{error.detail} Waiting for it ...\n"))

    async def _publish(self, event: Event) -> None:
        await self.record.write(event, body=self.launch)

    async def _finish(self, event: Event) -> None:
        self.launch = self.launch.updated(finished_at=clock.now())
        await self.record.write(event, body=self.launch, final=True)
        if not self._leaves_build:  # which would still need it, and removes it
            await self._context.git_credentials.remove(self.launch.credential_id)

        outcome = self.launch.error.code if self.launch.error else str(self.launch.state)
        seconds = clock.now() - self.launch.created_at
        LAUNCHES_ENDED.labels(outcome).inc()
        LAUNCH_SECONDS.labels(outcome).observe(seconds)
        log.info("launch_ended", outcome=outcome, seconds=round(seconds, 3))
