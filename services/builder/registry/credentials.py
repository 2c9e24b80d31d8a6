"""Who we are to a registry. A cloud's token exchange plugs in here, by the entry point group `bindery.registries`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Protocol

from services.builder.registry.settings import RegistrySettings


class CredentialsError(Exception):
    """Nobody can say now who we are to the registry; the message is a part of a sentence that says why."""


@dataclass(frozen=True)
class Login:
    """What to authenticate with: a name and password, an OAuth2 refresh token, a bearer token, or nothing.

    `note` tells an operator, once the registry has refused, why there is no better login; it goes into our log, as does
    the name. Sentences that users read have neither. Secrets are not shown by `repr`.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Exchanged for access tokens at the realm that the registry names (`identitytoken` in `config.json`)."""
    registry_token: str = field(default="", repr=False)
    """Sent to the registry as it is (`registrytoken` in `config.json`)."""
    note: str = ""

    @property
    def is_anonymous(self) -> bool:
        return not (self.username or self.password or self.identity_token or self.registry_token)

    @property
    def name(self) -> str:
        """What a sentence that users read calls it."""
        return "anonymous access" if self.is_anonymous else "our login"


class Credentials(Protocol):
    """Gives logins, to read with and for builds to push with. Asked before each, so it keeps what is costly to make."""

    async def for_(self, registry: str, repository: str) -> Login:
        """The login for a repository; `registry` is host and port, `docker.io` for Docker Hub.

        An empty `Login` is anonymous. Raises `CredentialsError` where a login should be had but can't be now.
        """

    async def aclose(self) -> None:
        """Let go of connections."""


def make_credentials(settings: RegistrySettings) -> Credentials:
    """What `registry_credentials` names: ours, or by entry point a callable that takes the settings.

    Raises `ValueError` naming those that there are.
    """
    from services.builder.registry.docker_config import DockerConfig
    from services.builder.registry.google import GoogleMetadata

    ours: dict[str, Callable[[RegistrySettings], Credentials]] = {
        "docker-config": DockerConfig.of,
        "google-metadata": GoogleMetadata,
    }
    found = {point.name: point for point in entry_points(group="bindery.registries")}
    name = settings.registry_credentials
    if name in ours:
        return ours[name](settings)
    if name not in found:
        known = ", ".join(sorted({*ours, *found}))
        raise ValueError(f"BINDERY_REGISTRY_CREDENTIALS is {name!r}; there are: {known}.")
    made: Credentials = found[name].load()(settings)
    return made
