"""Servers as the API sees them: started for a launch, read, stopped."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from services.common.context import ProcessContext
from services.common.git.repository_url import repository_of
from services.common.models import Event, Phase, ResolvedRepo, Server, ServerId, ServerRequest, ServerState
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import ABANDONED, CancelRequests, abandoned_by
from services.common.records.leases import ServiceMember
from services.common.records.owned_record import Fenced, OwnedRecord
from services.common.records.records import ProcessLeaves
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.clock import clock
from services.common.service.correlation import from_fields, to_fields
from services.common.service.logging import bound_contextvars, get_logger
from services.launcher.abandoned_servers import abandoned_servers, launch_id_of
from services.launcher.hub.client import Hub
from services.launcher.hub.removal import remove_from_hub
from services.launcher.names import is_user_of, user_name
from services.launcher.seats.positions import SeatPosition, SeatReservation
from services.launcher.seats.recount import RECOUNT
from services.launcher.seats.seats import Seats
from services.launcher.settings import LauncherSettings
from services.launcher.start.spawn_limiter import LAUNCHER_JOINED, SpawnLimiter
from services.launcher.start.start import Start

log = get_logger(__name__)

ATTEMPTS_MAX = 4
"""Most starts of one launch whose user names are tried; a launch has its image rebuilt once."""

CANCEL_WAIT_SECONDS = 10.0
"""How long to wait for a cancelled start to end; it may be past the point where it can still be cancelled."""


def server_topic(server_id: str) -> Topic:
    """Return the topic of a server."""
    return Topic(Kind.SERVER, server_id)


class Servers:
    """Starts, reads and stops servers, and adopts the starts of launchers that died."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        settings: LauncherSettings,
        member: ServiceMember,
        hub: Hub,
        seats: Seats,
        spawn_limiter: SpawnLimiter,
    ) -> None:
        self._context = context
        self._settings = settings
        self._member = member
        self._hub = hub
        self._seats = seats
        self._spawn_limiter = spawn_limiter
        self._classes = settings.classes
        self._secret = settings.installation_secret.get_secret_value()
        self.cancel_requests = CancelRequests(context.records, Kind.SERVER, context.keys.wake("launcher"))

    # Names

    def user_for(self, repo_url: str, launch_ref: str, attempt: int) -> str:
        """Return the user name of a launch's attempt, which only this installation can make."""
        return user_name(self._secret, repo_url, launch_ref, attempt)

    def is_user_of(self, user: str, launch_ref: str) -> bool:
        """Return whether this installation made a user name for any attempt of a launch, even before an upgrade."""
        return any(is_user_of(user, self._secret, launch_ref, attempt) for attempt in range(ATTEMPTS_MAX))

    def id_for(self, repo_url: str, launch_ref: str, attempt: int) -> ServerId:
        """Return the id that the server of a launch's attempt has, or would have."""
        return Server.identity(self._hub.hub_id, self.user_for(repo_url, launch_ref, attempt), "")

    # The API

    async def start(self, request: ServerRequest) -> Server:
        """Start a launch's server, or return the server that an earlier request of the launch has started.

        Everything by which a repeated start recognises its own server is recorded before the hub is first called.
        Raise `BinderyError` if the launch can't have its resource class, or if this launcher is about to end.
        """
        request = request.updated(repo=self._classes.choose(request.repo, request.resource_class))
        server = self._new_server(request)
        options = self._user_options(server, request)  # whatever can be refused is, before there is a record
        topic = server_topic(server.server_id)
        if server.server_id in self.cancel_requests:
            # It is starting here. If Redis was emptied, the record must be written again before another one is made.
            await self._context.records.restore(topic)

        event = Event(phase=Phase.LAUNCHING, message="Launching server...\n")
        try:
            record, (seat_answer,) = await self._context.records.create(
                topic, server, event,
                process=self._member.process,
                fields={"request": request.model_dump_json(exclude_none=True)} | to_fields(),
                piggyback=[self._seats.reservation(server, request.repo)],
            )  # fmt: skip
        except ProcessLeaves as error:
            detail = "It is about to end; another one, or its successor, takes the request."
            raise BinderyError("launcher_unavailable", detail, retry_after_seconds=1) from error
        reservation = SeatReservation.parse(seat_answer)

        if isinstance(record, OwnedRecord):
            position = self._seats.position(reservation.number, reservation.blocked_by)
            start = self._new_start(record, server, request, position=position)
            start.options = options
            self._member.work(topic, self._run_start(start))
            log.info("server_start", server_id=server.server_id, launch_ref=server.launch_ref)
            return server.updated(queue=position.queue)
        if isinstance(record, StoredRecord):
            existing = record.model(Server)
            # A server that failed may have kept its seat, because it may still run.
            if existing.state.is_final and not reservation.is_repeated:
                await self._seats.release(server.server_id)
            return existing
        raise BinderyError("internal")

    async def check(self, repo: ResolvedRepo, resource_class: str | None) -> None:
        """Raise `BinderyError` if a launch of `repo` has no chance of a seat; called before anything is built."""
        await self._seats.check(self._classes.choose(repo, resource_class))

    async def read(self, server_id: str) -> Server:
        """Return a server by its id. Raise `BinderyError("not_found")`."""
        record = await self._context.records.read(server_topic(server_id))
        if record is None:
            raise BinderyError("not_found", "There is no such server, or it was too long ago.")
        return record.model(Server)

    async def stop(self, server_id: str, *, even_ready: bool = False, launch_epoch: int | None = None) -> None:
        """Request that a start be cancelled. A server that is ready already belongs to its user and stays.

        With `even_ready` it is removed too: its launch ended without it, so no user knows of it. A gateway that asks
        for that gives the epoch at which it owned the launch: if another one owns it by now, that one goes on with the
        server, and nothing is done.
        """
        topic = server_topic(server_id)
        record = await self._context.records.read(topic)
        if record is None:
            return
        if launch_epoch is not None and await self._has_launch_later_owner(record, launch_epoch):
            log.warning("stop_not_wanted", server_id=server_id, launch_epoch=launch_epoch)
            return

        if record.model(Server).state in {ServerState.WAITING, ServerState.STARTING}:
            await self.cancel_requests.request(server_id)
            if even_ready:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CANCEL_WAIT_SECONDS):
                        await self._context.bus.wait_for_end(topic)

        if even_ready:
            # Recorded first, for the process that adopts this record if we die.
            await self._context.records.set_field(topic, ABANDONED, abandoned_by(launch_epoch))
            adopted = await self._context.records.adopt("launcher", self._member.process, topic=topic)
            if adopted:
                self._member.work(topic, self.adopt(*adopted))

    async def _has_launch_later_owner(self, record: StoredRecord, epoch: int) -> bool:
        launch_id = launch_id_of(record)
        return bool(launch_id) and await self._context.records.has_later_owner(Topic(Kind.LAUNCH, launch_id), epoch)

    # Starts

    async def adopt(self, record: OwnedRecord, stored: StoredRecord) -> None:
        """Continue a start whose process died, or remove its server if it is abandoned."""
        with bound_contextvars(**from_fields(stored.fields)):
            await self._adopt(record, stored)

    async def _adopt(self, record: OwnedRecord, stored: StoredRecord) -> None:
        server = stored.model(Server)
        is_abandoned = bool(await abandoned_servers(self._context, {server.server_id: stored}))
        if server.state is ServerState.READY and is_abandoned:
            await self._remove_abandoned(record, server)
            return
        if server.state not in {ServerState.WAITING, ServerState.STARTING}:
            await record.write(body=server, release=True)
            return

        request = stored.model_of_field("request", ServerRequest)
        start = self._new_start(
            record,
            server,
            request,
            began_at=float(stored.get("begun", "0")),
            is_adopted=True,
            is_cancelled=is_abandoned or bool(stored.get("cancel")),
        )

        async with self._under_way(start):
            try:
                start.options = self._user_options(server, request)
            except BinderyError as error:  # its resource class was removed meanwhile
                await start.fail(error)
            else:
                await start.run()

    async def _run_start(self, start: Start) -> None:
        async with self._under_way(start):
            await start.run()

    @contextlib.asynccontextmanager
    async def _under_way(self, start: Start) -> AsyncIterator[None]:
        """Bind the launch to log lines; at the end of the block, unregister the start's cancel request."""
        with bound_contextvars(launch_ref=start.server.launch_ref):
            try:
                yield
            finally:
                self.cancel_requests.unregister(start.server.server_id, start.cancel_requested)

    def _new_server(self, request: ServerRequest) -> Server:
        user = self.user_for(request.repo.repo_url, request.launch_ref, request.attempt)

        return Server(
            server_id=Server.identity(self._hub.hub_id, user, ""),
            hub_id=self._hub.hub_id,
            user=user,
            server_name="",
            launch_ref=request.launch_ref,
            state=ServerState.WAITING,
            image=request.image,
            repo_url=request.repo.repo_url,
            url=self._hub.server_url(user, ""),
            token=secrets.token_urlsafe(16),
            created_at=clock.now(),
            idle_timeout_seconds=self._settings.idle_timeout_seconds or None,
        )

    def _new_start(
        self,
        record: OwnedRecord,
        server: Server,
        request: ServerRequest,
        *,
        position: SeatPosition | None = None,
        began_at: float = 0.0,
        is_adopted: bool = False,
        is_cancelled: bool = False,
    ) -> Start:
        return Start(
            settings=self._settings,
            hub=self._hub,
            seats=self._seats,
            spawn_limiter=self._spawn_limiter,
            record=record,
            server=server,
            repo=request.repo,
            cancel_requested=self.cancel_requests.register(server.server_id, is_requested=is_cancelled),
            position=position,
            began_at=began_at,
            is_adopted=is_adopted,
        )

    def _user_options(self, server: Server, request: ServerRequest) -> dict[str, Any]:
        """Return the spawner's `user_options`: BinderHub's fields, and ours.

        Raise `BinderyError("unknown_resource_class")`.
        """
        repo = request.repo
        image = request.image
        if request.digest:
            image = f"{request.image.rpartition(':')[0]}@{request.digest}"

        return {
            "image": image,
            "repo_url": repo.repo_url,
            "token": server.token or "",
            "binder_ref_url": repo.ref_url,
            "binder_launch_host": request.launch_host,
            "binder_request": f"v2/{repo.provider}/{repo.spec}",
            "binder_persistent_request": f"v2/{repo.provider}/{repo.resolved_spec}",
            "binder_client_ip": request.client_ip,
            "bindery_ref": repo.ref,
            "bindery_launch_ref": request.launch_ref,
            "bindery_installation": self._settings.installation_id,
            "bindery_repo_key": repository_of(repo),
            **self._classes.for_spawner(repo),
        }

    async def _remove_abandoned(self, record: OwnedRecord, server: Server) -> None:
        """Remove a ready server that no user will get; its record changes first, so that the reaper can finish."""
        error = BinderyError("cancelled", "Its launch ended without it.")
        failed = server.updated(state=ServerState.FAILED, error=error.problem)
        event = Event(
            phase=Phase.FAILED, message=f"{error.detail}\n", state=failed.state, error=error.problem, terminal=True
        )
        with contextlib.suppress(Fenced):
            await record.write(event, body=failed, final=True)
            log.info("server_given_up", server_id=server.server_id, launch_ref=server.launch_ref)
            seconds = self._settings.cleanup_timeout_seconds
            if await remove_from_hub(self._hub, failed.user, failed.server_name, seconds=seconds):
                await self._seats.release(server.server_id)

    # Messages

    def on_message(self, message: bytes) -> None:
        """Pass a message of the launchers' channel to the part of this process that it concerns."""
        self.cancel_requests.on_message(message)
        if message.partition(b" ")[0] == b"seat":
            self._seats.on_queue_changed()
        elif message == LAUNCHER_JOINED.encode():
            self._spawn_limiter.on_launcher_joined()
        elif message == RECOUNT.encode():
            self._seats.on_count_started()
        else:
            self._member.wake()
