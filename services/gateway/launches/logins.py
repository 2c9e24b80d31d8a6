"""Launches whose request has a login for a private repository."""

from services.common.context import ProcessContext
from services.common.git.logins import scoped_login
from services.common.models import GitCredential, Launch, Visibility
from services.gateway.backends import Backends
from services.gateway.launches.launch_checks import resolve_and_check
from services.gateway.settings import GatewaySettings


async def with_login(
    launch: Launch, login: GitCredential, *, context: ProcessContext, backends: Backends, settings: GatewaySettings
) -> Launch:
    """Return a launch with its repository, as the holder of the login sees that, and a credential for the build.

    The login itself is in no record: a launch whose repository it can't read does not begin. Raise as
    `resolve_and_check` does.
    """
    repo = await resolve_and_check(launch, backends, settings, login=login)
    if repo.visibility is Visibility.PUBLIC:
        return launch.updated(repo=repo)
    credential = scoped_login(login, repo.repo_url, provider=repo.provider)
    return launch.updated(repo=repo, credential_id=await context.git_credentials.store(credential))
