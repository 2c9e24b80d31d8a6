"""Logins for a registry: the types that every source of logins shares.

`credential_sources` chooses the source. A cloud's own exchange of tokens plugs in there.
"""

from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol


class CredentialsError(Exception):
    """No login can be determined at the moment. The message is part of a sentence and says why."""


@dataclass(frozen=True)
class Login:
    """The means to authenticate: a name and password, an OAuth2 refresh token, a bearer token, or nothing.

    Secrets are not shown by `repr`.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    _: KW_ONLY
    identity_token: str = field(default="", repr=False)
    """Exchanged for access tokens at the realm that the registry names (`identitytoken` in `config.json`)."""
    registry_token: str = field(default="", repr=False)
    """Sent to the registry as it is (`registrytoken` in `config.json`)."""
    note: str = ""
    """Why there is no better login. Written to our log once the registry has refused, as is `username`; sentences that
    users read contain neither."""

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to authenticate with."""
        return not (self.username or self.password or self.identity_token or self.registry_token)

    @property
    def name(self) -> str:
        """The name of this login in sentences for users."""
        return "anonymous access" if self.is_anonymous else "our login"


class Credentials(Protocol):
    """A source of logins, to read with and for builds to push with.

    It is asked before each authentication, so it caches what is expensive to obtain.
    """

    async def login_for(self, registry: str, repository: str) -> Login:
        """Return the login for a repository; an empty `Login` is anonymous.

        `registry` is host and port, `docker.io` for Docker Hub. Raise `CredentialsError` if there should be a login
        but it can't be obtained at the moment.
        """

    async def aclose(self) -> None:
        """Close connections."""
