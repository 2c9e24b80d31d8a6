"""Builds, as the API sees them: an image is asked for, and there is an attempt, an image, or a remembered failure."""

import time

from services.builder.attempts import Attempts, topic_of
from services.builder.images import Images
from services.builder.names import image_name
from services.builder.settings import BuilderSettings
from services.common.entries import BEGIN, Entry
from services.common.errors import AUTHOR_CODES, BinderyError
from services.common.facts import ImageFact
from services.common.logging import get_logger
from services.common.logstore import stream_entries
from services.common.models import Build, BuildInput, BuildRequest, BuildState
from services.common.stage import Stage

log = get_logger(__name__)


class Builds:
    """Finds, begins, reads and cancels builds."""

    def __init__(self, stage: Stage, settings: BuilderSettings, attempts: Attempts, images: Images) -> None:
        self._stage, self._settings = stage, settings
        self._attempts, self._images = attempts, images

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
            await self._stage.facts.forget_image(repo)
        if found := await self._images.find(image):
            known = current if current and current.state is BuildState.BUILT else None
            fact = ImageFact(image=image, digest=found.digest, build_id=known and known.build_id, asked_at=asked_at)
            await self._stage.facts.has_image(repo, fact)
            return known.updated(digest=found.digest) if known else self._already_there(image, found.digest, request)
        if current and self._is_remembered(current) and request.replaces != current.build_id:
            return current
        build = await self._attempts.start(image, request)
        log.info("build_queued", build_id=build.build_id, image=image, launch_ref=request.launch_ref)
        return build

    async def _join(self, build: Build, request: BuildRequest) -> Build:
        if build.build_id and request.launch_ref:
            await self._attempts.join(build.build_id, request.launch_ref)
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
        return found[0]

    async def log(self, build_id: str, after: str = BEGIN) -> list[Entry]:
        """What a build has said so far, beyond a position: from its stream, or from the log store once it has ended."""
        if await self._stage.redis.exists(self._stage.keys.events(topic_of(build_id))):
            return await stream_entries(self._stage.redis, self._stage.keys, topic_of(build_id), after)
        if (found := await self._stage.logs.read(build_id, after)) is None:
            raise BinderyError("not_found", f"No log of build {build_id} is kept here.")
        return found

    async def leave(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """A launch waits no more for a build; with `stop`, one that nobody waits for ends after a grace."""
        await self._attempts.leave(build_id, launch_ref, stop=stop)

    async def cancel_unwanted(self, build_id: str) -> None:
        """End a build that nobody waits for any more: at once while it is queued, else by asking its worker."""
        reason = "Nobody waits for this build any more."
        found = await self._attempts.read(build_id)
        if found is None or not await self._attempts.ask_to_stop(build_id, reason):
            return
        if not await self._attempts.end_queued(found[0], BuildState.CANCELLED, BinderyError("cancelled", reason)):
            await self._stage.redis.publish(self._stage.keys.wake("builder"), f"cancel {build_id}")
