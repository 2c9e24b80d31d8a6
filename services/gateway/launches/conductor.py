"""The conductor: the story of a launch, from link to running server. Any gateway may go on with it at any point."""

import contextlib
import time

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
from services.common.redis.keys import Kind, Topic
from services.common.service.logging import get_logger
from services.common.streams.entries import StreamEvent
from services.common.streams.positions import STREAM_START
from services.gateway.backends import Backends
from services.gateway.launches.admission import admitted
from services.gateway.launches.side_effects import LaunchSideEffects
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

LAUNCHES = Counter("bindery_launches_total", "Launches that ended, by outcome", ["outcome"])
SECONDS = Histogram(
    "bindery_launch_seconds", "Time from request to end, in seconds", ["outcome"],
    buckets=(0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
)  # fmt: skip


class Conductor:
    """Takes one launch, which this process owns, through the stages."""

    def __init__(
        self,
        context: ProcessContext,
        backends: Backends,
        settings: GatewaySettings,
        claimed: OwnedRecord,
        launch: Launch,
        known: CachedAnswers,
    ) -> None:
        self._context, self._backends, self._settings = context, backends, settings
        self.claimed, self.launch, self._known = claimed, launch, known
        starts = CancelRequests(context.records, Kind.SERVER, context.keys.wake("launcher"))
        self.side_effects = LaunchSideEffects(backends, starts, launch.options.resource_class)
        self._has_built = False
        self.server: Server | None = None
        """The server when it is ready, as its record has it; None where only the record can tell."""

    async def conduct(self) -> None:
        """See the launch through. Raises `BinderyError` where it fails; cancelling leaves it to another gateway."""
        repo = await self._resolve()
        image = await self._image(repo)
        while not await self._serve(repo, image):
            # The image is gone from where it was: forget that it was there, and build it again, once.
            image = await self._build(repo, BuildRequest(repo=repo, launch_ref=self.launch.launch_ref, past_cache=True))
        self.launch = self.launch.updated(state=LaunchState.READY, queue=None)
        await self._end(Event(phase=Phase.READY, state=LaunchState.READY, terminal=True))

    # 1: what the link means

    async def _resolve(self) -> ResolvedRepo:
        if self.launch.repo:  # another gateway had it admitted
            return self.launch.repo
        repo = await admitted(self.launch, self._backends, self._settings, known=self._known.repo)
        self.launch = self.launch.updated(repo=repo)
        if repo.notice:
            await self._tell(Event(phase=Phase.WAITING, message=f"{repo.notice}\n"))
        return repo

    # 2: its image

    async def _image(self, repo: ResolvedRepo) -> CachedImage:
        if self.launch.image and self.launch.state in {LaunchState.WAITING, LaunchState.LAUNCHING}:
            return CachedImage(image=self.launch.image, digest=self.launch.digest, asked_at=0.0)
        replaces = self.launch.options.rebuild
        if not replaces and (fact := self._known.image or await self._context.launch_cache.find_image(repo)):
            return fact
        return await self._build(repo, BuildRequest(repo=repo, launch_ref=self.launch.launch_ref, replaces=replaces))

    async def _build(self, repo: ResolvedRepo, request: BuildRequest) -> CachedImage:
        """The image, built if it has to be. A build that vanished is asked for again, a few times."""
        for lost in range(self._settings.lost_builds_max + 1):
            build = (None if lost else await self._followed_build()) or await self.side_effects.build(
                request, self._away
            )
            if build.build_id and build.state is not BuildState.BUILT:
                await self._follow_build(build)
                build = await self._finished(build)
                self.side_effects.build_ended()
            if build.state is BuildState.BUILT:
                self.launch = self.launch.updated(build_id=build.build_id)
                return CachedImage(image=build.image, digest=build.digest, asked_at=time.time())
            error = BinderyError.of(build.error) if build.error else BinderyError("build_lost")
            if not error.has_code("build_lost", "cancelled"):  # cancelled for others, before this one joined it
                raise error
            log.warning("build_lost", build_id=build.build_id, times=lost + 1, code=error.code)
        raise BinderyError("build_lost") if error.has_code("cancelled") else error

    async def _followed_build(self) -> Build | None:
        """The build that this launch was following when another gateway conducted it, whatever became of it."""
        if self.launch.state is not LaunchState.BUILDING or not self.launch.build_id:
            return None
        stored = await self._context.records.read(Topic(Kind.BUILD, self.launch.build_id))
        return stored.model(Build) if stored else None

    async def _follow_build(self, build: Build) -> None:
        """Show the build's own stream to whoever follows the launch, and wait for its end."""
        if self.launch.build_id != build.build_id or self.launch.state is not LaunchState.BUILDING:
            self.launch = self.launch.updated(state=LaunchState.BUILDING, build_id=build.build_id, image=build.image)
            opens = TopicRef(kind="b", id=build.build_id or "", after=STREAM_START)
            await self._tell(Event(phase=Phase.BUILDING, state=LaunchState.BUILDING, opens=opens))
        if build.is_live:
            self._has_built = True
            await self._context.bus.wait_for_end(Topic(Kind.BUILD, build.build_id or ""))

    async def _finished(self, build: Build) -> Build:
        """The build after its end; one whose record was lost with Redis counts as vanished."""
        stored = await self._context.records.read(Topic(Kind.BUILD, build.build_id or ""))
        return stored.model(Build) if stored else build.updated(state=BuildState.FAILED, error=None)

    # 3: its server

    async def _serve(self, repo: ResolvedRepo, image: CachedImage) -> bool:
        """Start the server and wait until it is ready. False when its image is gone, the first time."""
        request = ServerRequest(
            launch_ref=self.launch.launch_ref, launch_id=self.launch.launch_id,
            attempt=int(self.launch.rebuilt), repo=repo,
            image=image.image, digest=image.digest, resource_class=self.launch.options.resource_class,
            launch_host=self.launch.launch_host, client_ip=self.launch.client_ip,
        )  # fmt: skip
        server = await self.side_effects.start_server(request)
        if self.launch.server_id != server.server_id:
            state = LaunchState.WAITING if server.queue else LaunchState.LAUNCHING
            self.launch = self.launch.updated(
                state=state, server_id=server.server_id, queue=server.queue,
                image=image.image, digest=image.digest, build_id=image.build_id or self.launch.build_id,
            )  # fmt: skip
            said = "Built image, launching...\n" if self._has_built else "Found built image, launching...\n"
            opens = TopicRef(kind="s", id=server.server_id, after=STREAM_START)
            await self._tell(Event(phase=Phase.BUILT, message=said, image_name=image.image, state=state, opens=opens))
        while not (ended := await self._until_terminal(Topic(Kind.SERVER, server.server_id))):
            server = await self.side_effects.start_server(request)  # its record went with Redis
        if ended.get("state") != ServerState.FAILED:  # it is the launch's, to be stopped, until that is ready too
            ready = server.updated(state=ServerState.READY, expires=ended.get("expires"))
            self.server = None if ended.get("changed") else ready
            return True
        self.side_effects.server_ended()
        error = BinderyError.of(Problem.model_validate(ended["error"])) if "error" in ended else BinderyError("unknown")
        if not error.has_code("image_pull_failed") or self.launch.rebuilt:
            raise error
        await self._context.launch_cache.forget_image(repo)
        self.launch = self.launch.updated(rebuilt=True)
        return False

    async def _until_terminal(self, topic: Topic) -> StreamEvent:
        """Wait for a topic's terminal event; empty when the topic is lost. A queue of it becomes the launch's."""
        seconds = self._settings.reread_seconds
        async with contextlib.aclosing(self._context.bus.events(topic, check_seconds=seconds)) as events:
            async for entry, event in events:
                if (
                    self.launch.state is LaunchState.WAITING and not entry.is_first
                ):  # the first is the server's creation
                    queue = Queue.model_validate(event["queue"]) if "queue" in event else None
                    state = LaunchState.WAITING if queue else LaunchState.LAUNCHING
                    self.launch = self.launch.updated(state=state, queue=queue)
                    await self.claimed.write(body=self.launch)
                if event.get("terminal"):
                    return event
        return {}

    async def _away(self, error: BinderyError) -> None:
        await self._tell(Event(phase=Phase.WAITING, message=f"{error.detail} Waiting for it ...\n"))

    async def _tell(self, event: Event) -> None:
        await self.claimed.write(event, body=self.launch)

    async def _end(self, event: Event) -> None:
        self.launch = self.launch.updated(finished_at=time.time())
        await self.claimed.write(event, body=self.launch, final=True)
        outcome = self.launch.error.code if self.launch.error else str(self.launch.state)
        LAUNCHES.labels(outcome).inc()
        SECONDS.labels(outcome).observe(time.time() - self.launch.created_at)
        log.info("launch_ended", outcome=outcome, seconds=round(time.time() - self.launch.created_at, 3))

    async def failed(self, error: BinderyError, state: LaunchState = LaunchState.FAILED) -> None:
        """End the launch with an error, which its followers read."""
        self.launch = self.launch.updated(state=state, error=error.problem, queue=None)
        phase = Phase.CANCELLED if state is LaunchState.CANCELLED else Phase.FAILED
        message = f"{error.detail}\n"
        await self._end(Event(phase=phase, message=message, state=state, error=error.problem, terminal=True))
