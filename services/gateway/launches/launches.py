"""Launches of this gateway: begun, adopted, read, cancelled, and ended when nobody watches any more."""

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections import deque
from typing import Any

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchOptions, LaunchState, Phase, Server, Spec
from services.common.models.errors import BinderyError
from services.common.models.ids import launch_ref, new_launch_id
from services.common.records.cancel_requests import CancelRequests
from services.common.records.launch_cache import CachedAnswers
from services.common.records.leases import StageMember
from services.common.records.owned_record import Fenced, OwnedRecord, RecordLost
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.service.correlation import from_fields, to_fields
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.tasks import sleep_unless_cancelled
from services.gateway.backends import Backends
from services.gateway.launches.conductor import Conductor
from services.gateway.launches.links import without_login
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)


REMEMBERED = 1000
"""How many ended launches stay in memory, for followers who are about to be told their end."""


ABANDONABLE_STATES = {LaunchState.RESOLVING, LaunchState.BUILDING, LaunchState.WAITING}
"""Where a launch stands that has nothing that others wait for: it may be abandoned."""


def topic_of(launch_id: str) -> Topic:
    """The topic of a launch."""
    return Topic(Kind.LAUNCH, launch_id)


class Launches:
    """What the routes and pages do with launches."""

    def __init__(
        self, context: ProcessContext, member: StageMember, backends: Backends, settings: GatewaySettings
    ) -> None:
        self._context, self._backends, self._settings = context, backends, settings
        self.member = member
        self.cancels = CancelRequests(context.records, Kind.LAUNCH, context.keys.wake("gateway"))
        self._conductors: dict[str, Conductor] = {}
        self._ended: deque[str] = deque()

    async def start(
        self,
        spec: Spec,
        *,
        principal: str,
        options: LaunchOptions,
        client_ip: str = "",
        launch_host: str = "",
        idempotency_key: str = "",
        body_hash: str = "",
    ) -> tuple[Launch, bool]:
        """Begin a launch, or return the one that the same principal began with the same key: (launch, is new).

        Raises `BinderyError("idempotency_mismatch")` when the key came with another request before.
        """
        launch_id = new_launch_id()
        launch = Launch(
            launch_id=launch_id,
            launch_ref=launch_ref(launch_id),
            spec=without_login(spec),
            principal=principal,
            options=options,
            state=LaunchState.RESOLVING,
            created_at=time.time(),
            client_ip=client_ip,
            launch_host=launch_host,
        )
        created, (answer,) = await self._context.records.create(
            topic_of(launch_id), launch, Event(phase=Phase.RESOLVING, state=LaunchState.RESOLVING),
            process=self.member.process, fields=to_fields(),
            idempotency=self._idempotency(principal, idempotency_key, body_hash, launch_id),
            rewrite_if_missing=True, piggyback=[self._context.launch_cache.lookup_call(launch.spec)],
        )  # fmt: skip
        if isinstance(created, str):
            known = json.loads(created)
            if known["body"] != body_hash:
                raise BinderyError("idempotency_mismatch", "This Idempotency-Key was sent with another launch before.")
            return await self.read(known["launch_id"], principal), False
        if not isinstance(created, OwnedRecord):
            raise BinderyError("internal")
        self.member.work(
            topic_of(launch_id), self._conduct(created, launch, self._context.launch_cache.parse_lookup(answer))
        )
        return launch, True

    def _idempotency(self, principal: str, key: str, body_hash: str, launch_id: str) -> tuple[str, str, int]:
        if not key:
            return "", "", 0
        digest = hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()[:40]
        value = json.dumps({"v": 1, "launch_id": launch_id, "body": body_hash})
        return self._context.keys(f"idempotency:{digest}"), value, int(self._settings.idempotency_ttl_seconds * 1000)

    async def adopt(self, claimed: OwnedRecord, stored: StoredRecord) -> None:
        """Go on with a launch whose gateway died."""
        launch = stored.model(Launch)
        claimed.rewrite_if_missing = True
        with bound_contextvars(**from_fields(stored.fields)):
            await self._conduct(claimed, launch, CachedAnswers(None, None), cancelled=bool(stored.get("cancel")))

    async def _conduct(
        self, claimed: OwnedRecord, launch: Launch, known: CachedAnswers, *, cancelled: bool = False
    ) -> None:
        """Run the conductor until the launch ends, is cancelled, or nobody watches any more."""
        conductor = Conductor(self._context, self._backends, self._settings, claimed, launch, known)
        conductor.side_effects.is_adopted = claimed.epoch > 1
        self._conductors[launch.launch_id] = conductor
        asked = self.cancels.register(launch.launch_id, is_requested=cancelled)
        with bound_contextvars(launch_ref=launch.launch_ref):
            work: dict[str, asyncio.Task[Any]] = {
                "story": asyncio.create_task(_conduct_through_outages(conductor), name="story"),
                "cancel": asyncio.create_task(asked.wait(), name="cancel"),
                "abandon": asyncio.create_task(self._until_abandoned(conductor), name="abandon"),
            }
            try:
                await self._wait_for_outcome(conductor, work, asked)
            except BinderyError as error:
                await self._fail(claimed, conductor, error)
            except (Fenced, RecordLost) as error:
                log.warning("launch_not_ours", why=type(error).__name__)
            except Exception as error:
                log.exception("launch_broke", error=str(error))
                await self._fail(claimed, conductor, BinderyError("internal"))
            finally:
                for task in work.values():
                    task.cancel()
                await asyncio.gather(*work.values(), conductor.side_effects.cancel_calls(), return_exceptions=True)
                self.cancels.unregister(launch.launch_id, asked)
                self._remember(launch.launch_id)
                await self._context.bus.close_local(topic_of(launch.launch_id))

    async def _wait_for_outcome(
        self, conductor: Conductor, work: dict[str, asyncio.Task[Any]], asked: asyncio.Event
    ) -> None:
        """Wait for the story's end. Raises `BinderyError` where it fails, takes too long, or nobody wants it."""
        seconds = self._settings.launch_timeout_seconds - (time.time() - conductor.launch.created_at)
        await asyncio.wait(work.values(), return_when=asyncio.FIRST_COMPLETED, timeout=max(0.0, seconds))
        if work["story"].done():
            await work["story"]
            return
        is_late = not any(task.done() for task in work.values())
        while not work["story"].done():  # a client below may swallow a cancel that comes while it connects
            work["story"].cancel()
            await asyncio.wait([work["story"]], timeout=1.0)
        if conductor.claimed.has_ended:
            return
        if is_late:
            raise BinderyError("launch_timeout")
        if asked.is_set():
            raise BinderyError("cancelled", "The launch was cancelled.")
        raise BinderyError("abandoned", "Nobody followed this launch, so no server was started.")

    async def _fail(self, claimed: OwnedRecord, conductor: Conductor, error: BinderyError) -> None:
        """Leave the build, give up the server, and say so."""
        is_unwanted = error.has_code("cancelled", "abandoned")
        try:
            # Refused where the launch has ended, or is another's by now: its server is somebody's then. After this one
            # no end of ours takes effect that was broken off on its way.
            await claimed.write()
            # The launch ends last: whoever adopts it before that does this again.
            # An abandoned launch lets its build finish; a cancelled one stops it, if nobody else waits.
            await conductor.side_effects.compensate(conductor.launch, stop_build=error.has_code("cancelled"))
            await conductor.failed(error, LaunchState.CANCELLED if is_unwanted else LaunchState.FAILED)
        except (Fenced, RecordLost) as gone:
            log.warning("launch_not_ours", why=type(gone).__name__)

    async def _until_abandoned(self, conductor: Conductor) -> None:
        """Return when nobody has followed or read the launch for long enough, before its server has a seat."""
        topic, limit = topic_of(conductor.launch.launch_id), self._settings.abandoned_seconds
        last = time.time()
        while not conductor.launch.options.detached:
            await sleep_unless_cancelled(limit / 8)
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                if self._context.bus.is_followed(topic):
                    last = time.time()
                elif seen := await self._context.redis.hget(self._context.keys.record(topic), "seen"):
                    last = max(last, float(seen))
                if time.time() - last > limit and conductor.launch.state in ABANDONABLE_STATES:
                    return
        await asyncio.Event().wait()

    async def keep_followed_alive(self) -> None:
        """Tell other gateways' conductors that their launches are followed here."""
        while True:
            await sleep_unless_cancelled(self._settings.abandoned_seconds / 8)
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                for topic in self._context.bus.followed_topics("l"):
                    if not self.member.owns(topic):
                        await self._seen(topic)

    async def _seen(self, topic: Topic) -> None:
        await self._context.records.set_field(topic, "seen", repr(time.time()))

    async def read(self, launch_id: str, principal: str) -> Launch:
        """A launch, for who may see it, with its place in a queue. Reading counts as watching.

        Raises `BinderyError("not_found")`.
        """
        stored = await self._context.records.read(topic_of(launch_id))
        launch = stored.model(Launch) if stored else None
        if launch is None or not (launch.principal.startswith("anon:") or launch.principal == principal):
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")
        if not launch.state.is_final:
            await self._seen(topic_of(launch_id))
        if launch.state is LaunchState.BUILDING and launch.build_id:
            place = (await self._context.queue_positions.of(launch.build_id)).get(launch.build_id)
            launch = launch.updated(queue=place.queue if place else None)
        return launch

    async def outcome_of(self, launch_id: str) -> tuple[Launch, Server | None]:
        """A launch whose terminal event has been seen, with its server where it is ready.

        Redis is asked only where another gateway conducted it, or long ago. Raises `BinderyError("not_found")`.
        """
        here = self._conductors.get(launch_id)
        if here and here.claimed.has_ended and (here.server or here.launch.state is not LaunchState.READY):
            return here.launch, here.server
        if (stored := await self._context.records.read(topic_of(launch_id))) is None:
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")
        launch = stored.model(Launch)
        return launch, await self.server(launch) if launch.state is LaunchState.READY else None

    def _remember(self, launch_id: str) -> None:
        """A launch has ended here: its followers will ask for its last state, now and for a while."""
        self._ended.append(launch_id)
        while len(self._ended) > REMEMBERED:
            self._conductors.pop(self._ended.popleft(), None)

    async def server(self, launch: Launch) -> Server | None:
        """The server of a launch, as its record says; None where it has none, or the record has gone."""
        stored = await self._context.records.read(Topic(Kind.SERVER, launch.server_id)) if launch.server_id else None
        return stored.model(Server) if stored else None

    async def cancel(self, launch_id: str, principal: str) -> None:
        """Ask for a launch to be cancelled. Raises `BinderyError`: `not_found`, or `conflict` when it has ended."""
        launch = await self.read(launch_id, principal)
        if launch.state.is_final:
            raise BinderyError("conflict", f"The launch is {launch.state} already.")
        await self.cancels.request(launch_id)

    def heard(self, message: bytes) -> None:
        """Something on the gateways' channel: perhaps a cancel for a launch that is conducted here."""
        self.cancels.on_message(message)
        self.member.wake()


async def _conduct_through_outages(conductor: Conductor) -> None:
    """The conductor's story, taken up again where Redis went away in the middle of it."""
    while True:
        try:
            return await conductor.conduct()
        except REDIS_UNAVAILABLE as error:
            log.warning("redis_away", doing="conduct", error=str(error))
        await sleep_unless_cancelled(random.uniform(0.2, 0.5))  # noqa: S311
