"""Everything that one gateway process holds open, and the one place where it is wired."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.common.context import (
    ProcessContext,
    open_context,
    queue_positions_updated,
    service_member,
)
from services.common.records.leases import ServiceMember
from services.common.redis.keys import Kind
from services.common.service.health import Health
from services.common.service.loops import background_state, background_tasks
from services.gateway.backends import Backends, Providers
from services.gateway.launches.addresses.questions import Detected, settled
from services.gateway.launches.addresses.reading import Reading
from services.gateway.launches.launches import Launches
from services.gateway.launches.repository_types import RepositoryType
from services.gateway.pages.renderer import Pages
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.send_scheduler import SendScheduler
from services.gateway.streaming.stream_responses import StreamResponses


@dataclass(frozen=True, kw_only=True)
class GatewayContext:
    """The connections and services of one gateway process, for its routes."""

    settings: GatewaySettings
    """The gateway's settings."""
    common: ProcessContext
    """Redis, records and the rest that every service has."""
    backends: Backends
    """The clients of resolver, builder and launcher."""
    providers: Providers
    """The resolver's list of providers, cached."""
    launches: Launches
    """Starts, reads, cancels and conducts launches."""
    streams: StreamResponses
    """Creates the responses that follow launches and builds."""
    pages: Pages
    """Renders the pages."""

    async def repository_types(self) -> list[RepositoryType]:
        """Return the repository types that can be launched. Raise `BinderyError("resolver_unavailable")`."""
        return self.pages.types(await self.providers.all())

    async def detected(self, reading: Reading) -> Detected:
        """Return what an address means, asking the forge if need be. Raise `BinderyError`, as `settled` does."""
        return await settled(reading, self.backends, timeout_seconds=self.settings.detect_timeout_seconds)


@contextlib.asynccontextmanager
async def open_gateway_context(
    settings: GatewaySettings, *, health: Health, pages: Pages
) -> AsyncIterator[GatewayContext]:
    """Open Redis and the clients of the other services, and adopt orphaned launches, until the block exits.

    As soon as the process is asked to end, streams end and launches go to another gateway.
    """
    scheduler = SendScheduler(settings)
    async with (
        open_context(settings, health, subscribe_all={Kind.SERVER}) as common,
        queue_positions_updated(common),
        contextlib.aclosing(Backends(settings)) as backends,
    ):
        for name in backends.names:
            health.add(name, lambda name=name: backends.health_problem(name))  # type: ignore[misc]

        async with service_member(common, "gateway") as member:
            launches = Launches(context=common, member=member, backends=backends, settings=settings)
            await common.bus.listen(common.keys.wake("gateway"), launches.on_message)
            await common.bus.listen(common.keys.policy_news, launches.bans.on_message)
            await member.start(on_adopt=launches.adopt)
            async with background_tasks(
                launches.cancel_requests.poll(),
                launches.abandonment.run(),
                launches.bans.run(),
                launches.keep_followed_alive(),
                scheduler.run(),
                _leave_when_stopping(scheduler, member),
            ):
                yield GatewayContext(
                    settings=settings,
                    common=common,
                    backends=backends,
                    providers=Providers(backends),
                    launches=launches,
                    streams=StreamResponses(context=common, launches=launches, settings=settings, scheduler=scheduler),
                    pages=pages,
                )


async def _leave_when_stopping(scheduler: SendScheduler, member: ServiceMember) -> None:
    """Once the process is to end, end v1 streams, whose clients resume elsewhere, and hand over launches at once."""
    await background_state().stopping.wait()
    scheduler.drain()
    await member.hand_over()
