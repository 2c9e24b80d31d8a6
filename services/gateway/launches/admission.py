"""What a launch has to pass before anything is built or started. A build that is asked for by itself passes the same.

The resolver refuses what is banned, each pre-launch hook may refuse, and nothing is built that no server could be
started of. The limits of the queue are the builder's own.
"""

import hashlib

from services.common.models import Build, BuildId, BuildRequest, Launch, ResolvedRepo
from services.gateway.backends import Backends
from services.gateway.launches.pre_launch import ask_hooks
from services.gateway.settings import GatewaySettings


async def admitted(
    launch: Launch, backends: Backends, settings: GatewaySettings, *, known: ResolvedRepo | None = None
) -> ResolvedRepo:
    """What a launch's link means, where it may go on. Raises `BinderyError`.

    `known` is what the resolver has said of it before, under the bans that it has now.
    """
    repo = known or await backends.resolve(launch.spec)
    await ask_hooks(launch, repo, seconds=settings.pre_launch_timeout_seconds)
    return repo


async def may_build(backends: Backends, repo: ResolvedRepo, resource_class: str | None) -> None:
    """Raise `BinderyError` where no server of what is built would get a seat, or a place in the queue for one."""
    await backends.check_seat(repo, resource_class)


async def build_alone(launch: Launch, backends: Backends, settings: GatewaySettings) -> Build:
    """The build of a launch that wants no more: there, on its way, or begun. Raises `BinderyError`."""
    repo = await admitted(launch, backends, settings)
    await may_build(backends, repo, launch.options.resource_class)
    replaces = BuildId(launch.options.rebuild) if launch.options.rebuild else None
    return await backends.build(BuildRequest(repo=repo, replaces=replaces, asker=asker_of(launch.principal)))


def asker_of(principal: str) -> str:
    """Who wants a build for itself, as its record names them: whoever reads that can't pass for them."""
    return hashlib.sha256(f"asker\0{principal}".encode()).hexdigest()[:32]
