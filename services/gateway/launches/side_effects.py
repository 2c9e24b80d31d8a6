"""Side effects of a launch: its requests to builder and launcher, and how a launch that fails undoes them.

A request whose reply never came may have had its effect too, and is undone as well.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.common.models import Build, BuildRequest, Launch, LaunchState, ResolvedRepo, Server, ServerRequest
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import CancelRequests
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.logging import get_logger
from services.common.service.tasks import cancel_and_wait
from services.gateway.backends import Backends, OnUnavailable
from services.gateway.launches.outages import WasRedisAwaySince, outlast_outages

log = get_logger(__name__)

T = TypeVar("T")
SETTLE_SECONDS = 10.0
"""How long a launch that fails waits for its requests in flight, and for answers that it needs to undo them."""


class LaunchSideEffects:
    """Requests that one launch has made to other services.

    Cancelling the conductor does not cancel a request in flight: its effect has to be known before `compensate` can
    undo it. `launch_epoch` is that of this owner: if the launch has another one by the time that its server is to be
    stopped, the server is in use.
    """

    def __init__(
        self,
        *,
        backends: Backends,
        was_redis_away_since: WasRedisAwaySince,
        server_cancels: CancelRequests,
        resource_class: str | None = None,
        launch_epoch: int = 1,
    ) -> None:
        self._backends = backends
        self._was_redis_away_since = was_redis_away_since
        self._server_cancels = server_cancels
        self._resource_class = resource_class
        self._launch_epoch = launch_epoch
        self._is_adopted = launch_epoch > 1  # another gateway may have made requests that the record does not name

        self._in_flight: set[asyncio.Task[Any]] = set()
        self._build: BuildRequest | None = None
        self._build_id: str | None = None
        self._has_server = False

    # Requests

    async def build(self, request: BuildRequest, on_unavailable: OnUnavailable | None = None) -> Build:
        """Request a build, unless no server could be started from it. Raise `BinderyError`."""
        await self._backends.check_seat(request.repo, self._resource_class)
        self._build = request
        self._build_id = None

        async def request_build() -> Build:
            build = await outlast_outages(
                lambda: self._backends.build(request, on_unavailable), was_redis_away_since=self._was_redis_away_since
            )
            self._build_id = build.build_id
            if not build.is_live:
                self._build = None
            return build

        return await self._shielded(request_build())

    async def start_server(self, request: ServerRequest) -> Server:
        """Request a server. Raise `BinderyError`."""
        self._has_server = True
        return await self._shielded(
            outlast_outages(
                lambda: self._backends.start_server(request), was_redis_away_since=self._was_redis_away_since
            )
        )

    def discard_build(self) -> None:
        """Forget the build, which has ended: there is no build to leave any more."""
        self._build = None
        self._build_id = None

    def discard_server(self) -> None:
        """Forget the server, which has failed: there is no server to stop any more."""
        self._has_server = False

    async def _shielded(self, call: Coroutine[Any, Any, T]) -> T:
        """Await `call` in a task that goes on if the caller is cancelled."""
        task = asyncio.create_task(call, name="launch request")
        self._in_flight.add(task)
        task.add_done_callback(self._discard_call)
        return await asyncio.shield(task)

    def _discard_call(self, task: asyncio.Task[Any]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: if the caller was cancelled, nobody else would

    # Undoing them

    async def compensate(self, launch: Launch, *, stop_build: bool) -> None:
        """Undo the requests: leave the build, and stop the server even if it is ready.

        `stop_build`: also stop the build, unless others wait for it.
        """
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=SETTLE_SECONDS)
            await self.cancel_calls()
        await self._best_effort(self._leave_build(launch, stop=stop_build))
        await self._best_effort(self._stop_server(launch))

    async def cancel_calls(self) -> None:
        """Cancel the requests in flight."""
        await cancel_and_wait(*self._in_flight)

    async def _best_effort(self, undo: Coroutine[Any, Any, None]) -> None:
        try:
            await undo
        except BinderyError as failure:
            log.warning("not_told_of_end", code=failure.code, detail=failure.detail)

    async def _leave_build(self, launch: Launch, *, stop: bool) -> None:
        build_id = self._build_id
        if self._build and not build_id:  # its reply never came: the same request again returns the build's id
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    build_id = (await self._backends.build(self._build)).build_id
        if not self._build and self._is_adopted and launch.state is LaunchState.BUILDING:
            build_id = launch.build_id
        if build_id:
            await self._backends.leave_build(build_id, launch.launch_ref, stop=stop)

    async def _stop_server(self, launch: Launch) -> None:
        if not self._has_server and not self._is_adopted:
            return

        try:
            repo = launch.repo or await self._resolve(launch)
            if repo:
                await self._backends.stop_server(
                    launch.launch_ref, repo.repo_url, int(launch.rebuilt), launch_epoch=self._launch_epoch
                )
        except BinderyError:
            # No launcher answers. The one that goes on with the start finds the cancel in the server's record; if the
            # server's id is not known here, it finds the launch's end in the launch's own record.
            if launch.server_id:
                with contextlib.suppress(*REDIS_UNAVAILABLE):
                    await self._server_cancels.request_even_if_ready(
                        launch.server_id, launch.launch_id, self._launch_epoch
                    )
            raise

    async def _resolve(self, launch: Launch) -> ResolvedRepo | None:
        with contextlib.suppress(TimeoutError, BinderyError):
            async with asyncio.timeout(SETTLE_SECONDS):
                return await self._backends.resolve(launch.spec)
        return None
