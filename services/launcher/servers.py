"""Servers, as the API sees them: started for a launch, read, stopped."""

import asyncio
import contextlib
import secrets
import time
from typing import Any

from services.common.context import ProcessContext
from services.common.git.repository_url import repository_of
from services.common.models import Event, Phase, ResolvedRepo, Server, ServerId, ServerRequest, ServerState
from services.common.models.errors import BinderyError
from services.common.records.cancel_requests import GIVEN_UP, CancelRequests
from services.common.records.leases import StageMember
from services.common.records.records import Fenced, OwnedRecord, RecordLost, StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.correlation import of_record, to_record
from services.common.service.logging import bound_contextvars, get_logger
from services.launcher.abandoned_servers import unwanted
from services.launcher.hub.client import Hub
from services.launcher.names import is_user_of, user_name
from services.launcher.seats.recount import RECOUNT
from services.launcher.seats.seats import Place, Seats
from services.launcher.settings import LauncherSettings
from services.launcher.start.spawn_limiter import LAUNCHER_JOINED, SpawnLimiter
from services.launcher.start.start import Start, remove_from_hub

log = get_logger(__name__)

ATTEMPTS_MAX = 4
"""Starts that one launch has at most, for what the reaper tries; a launch has its image built anew once."""

HEED_SECONDS = 10.0
"""How long a start that is given up is waited for: it may be past the point where it heeds that."""


def topic_of(server_id: str) -> Topic:
    """The topic of a server."""
    return Topic(Kind.SERVER, server_id)


class Servers:
    """Starts, reads and stops servers."""

    def __init__(
        self, context: ProcessContext, member: StageMember, settings: LauncherSettings, hub: Hub, seats: Seats
    ) -> None:
        self.member = member
        self._context, self._settings, self._hub, self._seats = context, settings, hub, seats
        self._classes, self.spawns = settings.classes, SpawnLimiter(context, settings)
        self._secret = settings.installation_secret.get_secret_value()
        self.cancels = CancelRequests(context.records, Kind.SERVER, context.keys.wake("launcher"))

    def user_for(self, repo_url: str, launch_ref: str, attempt: int) -> str:
        """The user name that only this installation can have made for a launch."""
        return user_name(self._secret, repo_url, launch_ref, attempt)

    def is_user_of(self, user: str, launch_ref: str) -> bool:
        """Whether a user's name is of this installation and of any attempt of a launch, also from before an upgrade."""
        return any(is_user_of(user, self._secret, launch_ref, attempt) for attempt in range(ATTEMPTS_MAX))

    def id_for(self, repo_url: str, launch_ref: str, attempt: int) -> ServerId:
        """The id of the server that a launch's start has, or would have."""
        return Server.identity(self._hub.hub_id, self.user_for(repo_url, launch_ref, attempt), "")

    async def start(self, request: ServerRequest) -> Server:
        """Start a launch's server. Asking again for the same launch returns the server that there is.

        Everything by which a repeated start recognises its own server is recorded before the hub is first called.
        Raises `BinderyError("unknown_resource_class")`.
        """
        request = request.updated(repo=self._classes.chosen(request.repo, request.resource_class))
        user = self.user_for(request.repo.repo_url, request.launch_ref, request.attempt)
        server_id = Server.identity(self._hub.hub_id, user, "")
        if server_id in self.cancels:  # it is starting here; if Redis was emptied, its record must not be another's
            await self._context.records.write_anew(topic_of(server_id))
        server = Server(
            server_id=server_id,
            hub_id=self._hub.hub_id,
            user=user,
            server_name="",
            launch_ref=request.launch_ref,
            state=ServerState.WAITING,
            image=request.image,
            repo_url=request.repo.repo_url,
            url=self._hub.server_url(user, ""),
            token=secrets.token_urlsafe(16),
            created_at=time.time(),
            idle_timeout_seconds=self._settings.idle_timeout_seconds or None,
        )
        event = Event(phase=Phase.LAUNCHING, message="Launching server...\n")
        created, (reserved,) = await self._context.records.create(
            topic_of(server_id), server, event,
            process=self.member.process,
            fields={"request": request.model_dump_json(exclude_none=True)} | to_record(), recreate=True,
            also=[self._seats.reservation(server, request.repo)],
        )  # fmt: skip
        if isinstance(created, OwnedRecord):
            place = self._seats.taken(reserved)
            self._begin(created, server, request, place)
            return server.updated(queue=place.queue)
        if isinstance(created, StoredRecord):
            found = created.model(Server)
            # One that failed may have kept its seat, for what may still run.
            if found.state.is_final and not self._seats.had_before(reserved):
                await self._seats.give_back(server_id)
            return found
        raise BinderyError("internal")

    def _begin(self, claimed: OwnedRecord, server: Server, request: ServerRequest, place: Place) -> None:
        asked = self.cancels.expect(server.server_id)
        start = Start(
            self._context, self._settings, self._hub, self._seats, self.spawns, claimed, server, request.repo,
            self._user_options(server, request), asked, place=place,
        )  # fmt: skip
        self.member.work(topic_of(server.server_id), self._see_through(start))
        log.info("server_start", server_id=server.server_id, launch_ref=server.launch_ref)

    async def _see_through(self, start: Start) -> None:
        with bound_contextvars(launch_ref=start.server.launch_ref):
            try:
                await start.run()
            finally:
                self.cancels.forget(start.server.server_id, start.asked)
                await self._context.bus.close_local(topic_of(start.server.server_id))

    async def adopt(self, claimed: OwnedRecord, stored: StoredRecord) -> None:
        """Go on with a start whose process died."""
        with bound_contextvars(**of_record(stored.fields)):
            await self._adopt(claimed, stored)

    async def _adopt(self, claimed: OwnedRecord, stored: StoredRecord) -> None:
        server = stored.model(Server)
        is_unwanted = bool(await unwanted(self._context, {server.server_id: stored}))
        if server.state is ServerState.READY and is_unwanted:
            await self._remove(claimed, server)
            return
        if server.state not in {ServerState.WAITING, ServerState.STARTING}:
            await claimed.write(body=server, release=True)
            return
        request = ServerRequest.model_validate_json(stored.get("request"))
        claimed.recreate = True
        asked = self.cancels.expect(server.server_id, is_asked=is_unwanted or bool(stored.get("cancel")))
        start = Start(
            self._context, self._settings, self._hub, self._seats, self.spawns, claimed, server, request.repo,
            {}, asked, begun=float(stored.get("begun", "0")), is_adopted=True,
        )  # fmt: skip
        try:
            start.options = self._user_options(server, request)
        except BinderyError as error:  # its resource class is gone, since it was asked for
            await start.failed(error)
            return
        await self._see_through(start)

    def _user_options(self, server: Server, request: ServerRequest) -> dict[str, Any]:
        """What the spawner is told: BinderHub's fields, and ours. Raises `BinderyError("unknown_resource_class")`."""
        repo = request.repo
        return {
            "image": f"{request.image.rpartition(':')[0]}@{request.digest}" if request.digest else request.image,
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

    async def check(self, repo: ResolvedRepo, resource_class: str | None) -> None:
        """Raise `BinderyError` where a launch of `repo` would have no chance of a seat: before anything is built."""
        await self._seats.check(self._classes.chosen(repo, resource_class))

    async def read(self, server_id: str) -> Server:
        """A server by its id. Raises `BinderyError("not_found")`."""
        if (stored := await self._context.records.read(topic_of(server_id))) is None:
            raise BinderyError("not_found", "There is no such server, or it was too long ago.")
        return stored.model(Server)

    async def stop(self, server_id: str, *, even_ready: bool = False) -> None:
        """Ask for a start to be given up. A server that is ready already is the user's, and stays.

        With `even_ready` it goes too: its launch ended without it, so no user knows of it.
        """
        topic = topic_of(server_id)
        stored = await self._context.records.read(topic)
        if stored and stored.model(Server).state in {ServerState.WAITING, ServerState.STARTING}:
            await self.cancels.ask(server_id)
            if even_ready:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEED_SECONDS):
                        await self._context.bus.wait_for_end(topic)
        if stored and even_ready:
            await self._context.records.note(topic, GIVEN_UP, "1")  # for whoever goes on with this, should we die
            if found := await self._context.records.adopt("launcher", self.member.process, topic=topic):
                self.member.work(topic, self.adopt(*found))

    async def _remove(self, claimed: OwnedRecord, server: Server) -> None:
        """End a server that became ready for nobody: by its record first, so that the reaper does what we can't."""
        error = BinderyError("cancelled", "Its launch ended without it.")
        ended = server.updated(state=ServerState.FAILED, error=error.problem)
        event = Event(
            phase=Phase.FAILED, message=f"{error.detail}\n", state=ended.state, error=error.problem, terminal=True
        )
        with contextlib.suppress(Fenced, RecordLost):
            await claimed.write(event, body=ended, final=True)
            log.info("server_given_up", server_id=server.server_id, launch_ref=server.launch_ref)
            if await remove_from_hub(self._hub, ended, seconds=self._settings.cleanup_timeout_seconds):
                await self._seats.give_back(server.server_id)

    def heard(self, message: bytes) -> None:
        """Something on the launcher's channel: perhaps a cancel for a start that runs here."""
        self.cancels.heard(message)
        if message.partition(b" ")[0] == b"seat":
            self._seats.heard()
        elif message == LAUNCHER_JOINED.encode():
            self.spawns.heard()
        elif message == RECOUNT.encode():
            self._seats.heard(is_recount=True)
        else:
            self.member.wake()
