"""The launches of this gateway: starting, adopting, conducting, reading and cancelling them."""

import hashlib
import json

from cachetools import FIFOCache

from services.common.context import ProcessContext
from services.common.models import (
    Event,
    GitCredential,
    Launch,
    LaunchId,
    LaunchOptions,
    LaunchState,
    Phase,
    Server,
    Spec,
)
from services.common.models.errors import BinderyError
from services.common.models.ids import launch_ref, new_launch_id
from services.common.records.cancel_requests import CancelRequests
from services.common.records.launch_cache import CachedAnswers
from services.common.records.leases import ServiceMember
from services.common.records.owned_record import OwnedRecord
from services.common.records.records import EarlierCreation, IdempotencyKey, ProcessLeaves
from services.common.records.stored_record import RecordUnreadable, StoredRecord
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import run_together
from services.common.service.clock import clock
from services.common.service.correlation import from_fields, to_fields
from services.common.service.logging import bound_contextvars
from services.common.service.loops import RETRY_MAX_SECONDS, run_forever
from services.gateway.backends import Backends
from services.gateway.launches.abandonment import Abandonment
from services.gateway.launches.bans import Bans
from services.gateway.launches.conductor import Conductor
from services.gateway.launches.launch_run import LaunchRun, launch_topic
from services.gateway.launches.links import without_login
from services.gateway.launches.logins import with_login
from services.gateway.settings import GatewaySettings

ENDED_LAUNCHES_MAX = 1000
"""How many ended launches stay in memory, for followers that are about to read their end."""


class Launches:
    """Starts, adopts and conducts the launches of this gateway; reads and cancels those of any gateway."""

    def __init__(
        self, *, context: ProcessContext, member: ServiceMember, backends: Backends, settings: GatewaySettings
    ) -> None:
        self._context = context
        self._backends = backends
        self._settings = settings
        self._conductors: dict[str, Conductor] = {}
        self._ended_conductors: FIFOCache[str, Conductor] = FIFOCache(ENDED_LAUNCHES_MAX)
        """Conductors of ended launches: followers ask for a launch's last state at its end, and for a while after."""

        self.member = member
        """This process as a member of the gateway service, with the records that it owns."""
        self.cancel_requests = CancelRequests(context.records, Kind.LAUNCH, context.keys.wake("gateway"))
        """Requests to cancel launches that are conducted here."""
        self.abandonment = Abandonment(context, limit_seconds=settings.abandoned_seconds)
        """The look for launches that are conducted here and that nobody follows."""
        self.bans = Bans(context, backends)
        """Ends launches that are conducted here when they are banned."""

    # Starting and adopting

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
        login: GitCredential | None = None,
    ) -> tuple[Launch, bool]:
        """Start a launch, or find the one that the same principal started with the same key: (launch, is new).

        With a `login`, the repository is resolved first: the login itself is in no record, and a launch whose
        repository it can't read does not begin.

        Raise `BinderyError`: `idempotency_mismatch` if the key came with another request before, `gateway_unavailable`
        if this gateway is about to end; with a login also what `resolve_and_check` raises.
        """
        launch_id = new_launch_id()
        launch = Launch(
            launch_id=launch_id,
            launch_ref=launch_ref(launch_id),
            spec=without_login(spec),
            principal=principal,
            options=options,
            state=LaunchState.RESOLVING,
            created_at=clock.now(),
            client_ip=client_ip,
            launch_host=launch_host,
        )
        if login:
            launch = await with_login(
                launch, login, context=self._context, backends=self._backends, settings=self._settings
            )

        # One round trip creates the record and looks the link up in the cache.
        try:
            record, (cache_answer,) = await self._context.records.create(
                launch_topic(launch_id),
                launch,
                Event(phase=Phase.RESOLVING, state=LaunchState.RESOLVING),
                process=self.member.process,
                fields=to_fields(),
                idempotency_key=self._idempotency_key(principal, idempotency_key, body_hash, launch_id),
                piggyback=[self._context.launch_cache.lookup_call(launch.spec)],
            )
        except ProcessLeaves as error:
            await self._context.git_credentials.remove(launch.credential_id)
            raise BinderyError("gateway_unavailable", "This gateway is being stopped: please launch again.") from error

        if isinstance(record, EarlierCreation):
            await self._context.git_credentials.remove(launch.credential_id)
            return await self._read_earlier(record, principal, body_hash), False
        if not isinstance(record, OwnedRecord):
            raise BinderyError("internal")

        cached = self._context.launch_cache.parse_lookup(cache_answer)
        self.member.work(launch_topic(launch_id), self._conduct(record, launch, cached))
        return launch, True

    async def _read_earlier(self, creation: EarlierCreation, principal: str, body_hash: str) -> Launch:
        """Return the launch that an earlier request with the same key has started.

        Raise `BinderyError`: `idempotency_mismatch` if that request had another body, `record_unreadable`.
        """
        try:
            earlier = json.loads(creation.value)
            launch_id = str(earlier["launch_id"])
            is_same = earlier["body"] == body_hash
        except (ValueError, KeyError, TypeError) as error:  # damaged, or of a newer release: it must not start another
            raise BinderyError("record_unreadable") from error

        if not is_same:
            raise BinderyError("idempotency_mismatch", "This Idempotency-Key was sent with another launch before.")
        return await self.read(launch_id, principal)

    def _idempotency_key(self, principal: str, key: str, body_hash: str, launch_id: str) -> IdempotencyKey | None:
        """Return the key that names a launch by its principal's Idempotency-Key; None for a request without one."""
        if not key:
            return None

        digest = hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()[:40]
        value = json.dumps({"v": 1, "launch_id": launch_id, "body": body_hash})
        return IdempotencyKey(
            key=self._context.keys(f"idempotency:{digest}"),
            value=value,
            ttl_ms=int(self._settings.idempotency_ttl_seconds * 1000),
        )

    async def adopt(self, record: OwnedRecord, stored_record: StoredRecord) -> None:
        """Go on with a launch whose gateway died."""
        launch = stored_record.model(Launch)
        nothing_cached = CachedAnswers(None, None)
        with bound_contextvars(**from_fields(stored_record.fields)):
            await self._conduct(record, launch, nothing_cached, is_cancelled=bool(stored_record.get("cancel")))

    async def _conduct(
        self, record: OwnedRecord, launch: Launch, cached: CachedAnswers, *, is_cancelled: bool = False
    ) -> None:
        """Conduct a launch until it ends or belongs to another gateway."""
        conductor = Conductor(
            context=self._context,
            backends=self._backends,
            settings=self._settings,
            was_redis_away_since=self.member.was_redis_away_since,
            record=record,
            launch=launch,
            cached=cached,
        )
        run = LaunchRun(
            conductor=conductor,
            context=self._context,
            settings=self._settings,
            cancel_requests=self.cancel_requests,
            abandonment=self.abandonment,
            bans=self.bans,
        )

        self._conductors[launch.launch_id] = conductor
        try:
            with bound_contextvars(launch_ref=launch.launch_ref):
                await run.run(is_cancelled=is_cancelled)
        finally:
            if conductor.record.has_ended:
                self._ended_conductors[launch.launch_id] = conductor
            if self._conductors.get(launch.launch_id) is conductor:  # a later run here may have adopted the launch
                del self._conductors[launch.launch_id]

    # Reading

    async def read(self, launch_id: str, principal: str) -> Launch:
        """Return a launch that `principal` may see, with its position in a queue. Reading counts as watching.

        Raise `BinderyError("not_found")`.
        """
        topic = launch_topic(launch_id)
        stored_record = await self._context.records.read(topic)
        launch = stored_record.model(Launch) if stored_record else None
        if launch is None or not (launch.principal.startswith("anon:") or launch.principal == principal):
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")

        if not launch.state.is_final:
            await self._mark_seen(topic)
        if launch.state is LaunchState.BUILDING and launch.build_id:
            positions = await self._context.queue_positions.of(launch.build_id)
            position = positions.get(launch.build_id)
            launch = launch.updated(queue=position.queue if position else None)
        return launch

    async def outcome_of(self, launch_id: str) -> tuple[Launch, Server | None]:
        """Return a launch whose terminal event has been seen, with its server if that is ready.

        Asks Redis only if another gateway conducted the launch, or if it ended long ago.

        Raise `BinderyError("not_found")`.
        """
        conductor = self._conductors.get(launch_id) or self._ended_conductors.get(launch_id)
        if conductor and conductor.record.has_ended:
            launch = conductor.launch
            if conductor.server or launch.state is not LaunchState.READY:
                return launch, conductor.server

        stored_record = await self._context.records.read(launch_topic(launch_id))
        if stored_record is None:
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")

        try:
            launch = stored_record.model(Launch)
        except RecordUnreadable as error:
            return _unreadable_launch(launch_id, error), None
        return launch, await self.server(launch) if launch.state is LaunchState.READY else None

    async def server(self, launch: Launch) -> Server | None:
        """Return a launch's server as its record has it; None if there is none, or no record of it any more."""
        if not launch.server_id:
            return None
        stored_record = await self._context.records.read(Topic(Kind.SERVER, launch.server_id))
        return stored_record.model(Server) if stored_record else None

    # Cancelling and watching

    async def cancel(self, launch_id: str, principal: str) -> None:
        """Request that a launch be cancelled. Raise `BinderyError`: `not_found`, or `conflict` if it has ended."""
        launch = await self.read(launch_id, principal)
        if launch.state.is_final:
            raise BinderyError("conflict", f"The launch is {launch.state} already.")
        await self.cancel_requests.request(launch_id)

    def on_message(self, message: bytes) -> None:
        """Handle a message on the gateways' channel: perhaps a cancel of a launch that is conducted here."""
        self.cancel_requests.on_message(message)
        self.member.wake()

    async def keep_followed_alive(self) -> None:
        """Record, until cancelled, which launches are followed here: for their conductors, and for who takes them over.

        After a failure it is told again soon, however long the usual wait is: meanwhile they hear of no follower.
        """
        wait = self._settings.abandoned_seconds / 8
        await run_forever(
            self._mark_followed, name="followed", wait=wait, unavailable=REDIS_UNAVAILABLE,
            retry_max_seconds=RETRY_MAX_SECONDS,
        )  # fmt: skip

    async def _mark_followed(self) -> None:
        await self._mark_seen(*self._context.bus.followed_topics(Kind.LAUNCH))

    async def _mark_seen(self, *topics: Topic) -> None:
        """Record that launches are followed or read now: one round trip for all."""
        records = self._context.records
        if topics:
            now = repr(clock.now())
            await run_together(records.redis, [records.set_field_call(topic, "seen", now) for topic in topics])


def _unreadable_launch(launch_id: str, error: RecordUnreadable) -> Launch:
    """Return what is known of a launch whose record can't be read: that it has failed."""
    return Launch(
        launch_id=LaunchId(launch_id),
        launch_ref=launch_ref(launch_id),
        spec=Spec(provider="", spec=""),
        principal="",
        state=LaunchState.FAILED,
        error=error.problem,
        created_at=0.0,
    )
