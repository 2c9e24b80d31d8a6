"""The checks that a launch passes before anything is built or started, and builds that are requested without a launch.

The resolver refuses banned repositories, each pre-launch hook may refuse a launch, and nothing is built if no server
could be started from it. A build that is requested on its own passes the same checks. The limits of the build queue are
the builder's own.
"""

import hashlib

from services.common.models import Build, BuildId, BuildRequest, GitCredential, Launch, ResolvedRepo
from services.gateway.backends import Backends
from services.gateway.launches.pre_launch import run_hooks
from services.gateway.settings import GatewaySettings


async def resolve_and_check(
    launch: Launch,
    backends: Backends,
    settings: GatewaySettings,
    *,
    cached: ResolvedRepo | None = None,
    login: GitCredential | None = None,
) -> ResolvedRepo:
    """Return the repository that a launch's link names, if the launch may go on. Raise `BinderyError`.

    `cached` is the resolver's earlier answer for this link, under the bans that are in force now. `login` is what came
    with the launch to read a private repository.
    """
    repo = cached or await backends.resolve(launch.spec, login)
    await run_hooks(launch, repo, seconds=settings.pre_launch_timeout_seconds)
    return repo


async def start_build_only(launch: Launch, backends: Backends, settings: GatewaySettings) -> Build:
    """Return the build for a request that wants no server: finished, under way or just started.

    Raise `BinderyError`.
    """
    repo = await resolve_and_check(launch, backends, settings)
    await backends.check_seat(repo, launch.options.resource_class)
    replaces = BuildId(launch.options.rebuild) if launch.options.rebuild else None
    return await backends.build(BuildRequest(repo=repo, replaces=replaces, asker=requester_id(launch.principal)))


def requester_id(principal: str) -> str:
    """Return the id of a build's requester: a hash, so that readers of the record can't act as that principal."""
    return hashlib.sha256(f"asker\0{principal}".encode()).hexdigest()[:32]
