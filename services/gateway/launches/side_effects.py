"""What a launch has asked of the builder and the launcher, and how that is taken back, also where no reply came."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.common.models import Build, BuildRequest, Launch, LaunchState, ResolvedRepo, Server, ServerRequest
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.logging import get_logger
from services.gateway.backends import Backends, OnUnavailable
from services.gateway.launches.admission import may_build

log = get_logger(__name__)

T = TypeVar("T")
SETTLE_SECONDS = 10.0
"""How long a launch that ends badly waits for its calls that are under way, and for what it does not know."""


class LaunchSideEffects:
    """The calls of one launch. One that is under way goes on when the launch's story is cancelled: see `take_back`."""

    def __init__(self, backends: Backends, starts: CancelRequests, resource_class: str | None = None) -> None:
        self._backends, self._starts, self._resource_class = backends, starts, resource_class
        self._under_way: set[asyncio.Task[Any]] = set()
        self._build: BuildRequest | None = None
        self._build_id: str | None = None
        self._has_server = False
        self.is_adopted = False
        """Another gateway may have asked for things that the record does not tell of."""

    async def _shielded(self, call: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(call, name="asked")
        self._under_way.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # it is raised to who waits, if somebody does

    async def build(self, request: BuildRequest, on_unavailable: OnUnavailable | None = None) -> Build:
        """Ask for a build, and remember that; not where no server of it could be started. Raises `BinderyError`."""
        await may_build(self._backends, request.repo, self._resource_class)
        self._build, self._build_id = request, None

        async def ask() -> Build:
            build = await self._backends.build(request, on_unavailable)
            self._build_id = build.build_id
            if not build.is_live:
                self._build = None
            return build

        return await self._shielded(ask())

    def build_ended(self) -> None:
        """The build has an end: there is nothing to leave."""
        self._build = self._build_id = None

    async def start_server(self, request: ServerRequest) -> Server:
        """Ask for a server, and remember that. Raises `BinderyError`."""
        self._has_server = True
        return await self._shielded(self._backends.start_server(request))

    def server_ended(self) -> None:
        """The server has failed: there is nothing to stop."""
        self._has_server = False

    async def compensate(self, launch: Launch, *, stop_build: bool) -> None:
        """Leave the build, and stop the server, ready or not; with `stop_build`, a build that nobody waits for too."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=SETTLE_SECONDS)
            await self.cancel_calls()
        await self._best_effort(self._leave_build(launch, stop=stop_build))
        await self._best_effort(self._stop_server(launch))

    async def _best_effort(self, undo: Coroutine[Any, Any, None]) -> None:
        try:
            await undo
        except BinderyError as failure:
            log.warning("not_told_of_end", code=failure.code, detail=failure.detail)

    async def cancel_calls(self) -> None:
        """Let go of the calls that are under way."""
        calls = list(self._under_way)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _leave_build(self, launch: Launch, *, stop: bool) -> None:
        build_id = self._build_id
        if self._build and not build_id:  # its reply never came: asking again tells which build it is
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    build_id = (await self._backends.build(self._build)).build_id
        if not self._build and self.is_adopted and launch.state is LaunchState.BUILDING:
            build_id = launch.build_id
        if build_id:
            await self._backends.leave_build(build_id, launch.launch_ref, stop=stop)

    async def _stop_server(self, launch: Launch) -> None:
        if not self._has_server and not self.is_adopted:
            return
        try:
            if repo := launch.repo or await self._repo(launch):
                await self._backends.stop_server(launch.launch_ref, repo.repo_url, int(launch.rebuilt))
        except BinderyError:
            # No launcher is there to be told: the one that goes on with the start finds it in the server's record. Of a
            # server whose id is not known here, the launch's own record tells.
            if launch.server_id:
                with contextlib.suppress(*REDIS_UNAVAILABLE):
                    await self._starts.request_even_if_ready(launch.server_id)
            raise

    async def _repo(self, launch: Launch) -> ResolvedRepo | None:
        with contextlib.suppress(TimeoutError, BinderyError):
            async with asyncio.timeout(SETTLE_SECONDS):
                return await self._backends.resolve(launch.spec)
        return None
