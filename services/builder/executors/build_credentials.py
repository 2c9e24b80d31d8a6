"""Registry credentials for repo2docker's container: to push its image, and to pull its base."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.redaction import Redaction
from services.builder.executors.repo2docker import git_secrets
from services.builder.registry.credential_sources import make_credentials
from services.builder.registry.credentials import Credentials, CredentialsError, Login
from services.builder.registry.reference import DOCKER_HUB, Reference
from services.builder.registry.settings import RegistrySettings
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict

_SECRET_ENTRIES = frozenset({"auth", "password", "identitytoken", "registrytoken"})
_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class BuildCredentials:
    """The credentials of one build: entries of `config.json`, and the login for the image's own registry, if any."""

    auths: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    registry: str = ""
    own: Login = field(default_factory=Login)

    @property
    def config_json(self) -> str:
        """Docker's client configuration with these logins and nothing else."""
        return json.dumps({"auths": self.auths})

    @property
    def engine_config(self) -> str:
        """The login as a line of repo2docker's configuration; empty without a password, the only kind that it can use.

        Source: the trait `registry_credentials` of repo2docker's `ContainerEngine`. It reads the same from
        CONTAINER_ENGINE_REGISTRY_CREDENTIALS, which BinderHub sets; but an environment leaks more easily than a file.
        """
        if not self.own.password:
            return ""
        login = {"registry": self.registry, "username": self.own.username, "password": self.own.password}
        return f"c.ContainerEngine.registry_credentials = {login!r}\n"

    @property
    def secrets(self) -> Iterator[str]:
        """The secrets in these credentials, to be blanked in logs."""
        for entry in self.auths.values():
            fields = {name: value for name, value in entry.items() if isinstance(value, str)}
            secrets = {name: value for name, value in fields.items() if name in _SECRET_ENTRIES}
            yield from secrets.values()
            with contextlib.suppress(ValueError):
                yield base64.b64decode(secrets.get("auth", "")).decode().partition(":")[2]


class CredentialsForBuilds:
    """The source of builds' credentials. Helper programs that the operator's file names are not in the container."""

    def __init__(self, settings: BuilderSettings) -> None:
        self._settings = settings
        self._credentials: Credentials = make_credentials(settings)
        self.redaction = Redaction()
        """Blanks all credentials that this process has given to builds, in every log that it reads."""
        with contextlib.suppress(BinderyError):  # raised again for each build that would get them
            self.redaction.learn(git_secrets(settings))

    async def for_image(self, image: str) -> BuildCredentials:
        """Return the operator's `auths`, and the login for the image's own registry from its source.

        Raise `ExecutorUnavailableError` if they can't be determined at the moment.
        """
        registry = ""
        login = Login()
        try:
            auths = await asyncio.to_thread(_read_auths, self._settings)
            if self._settings.build_push:
                reference = Reference.parse(image)
                login = await self._credentials.login_for(reference.host, reference.repository)
                registry = _HUB_KEY if reference.host == DOCKER_HUB else reference.host
                if not login.is_anonymous:
                    auths[registry] = _auths_entry(login)
        except CredentialsError as error:
            raise ExecutorUnavailableError(str(error)) from error

        credentials = BuildCredentials(auths, registry, login)
        self.redaction.learn(credentials.secrets)
        return credentials

    async def aclose(self) -> None:
        """Close connections."""
        await self._credentials.aclose()


def _read_auths(settings: RegistrySettings) -> dict[str, dict[str, str]]:
    """Return the `auths` of the operator's `config.json`. Raise `CredentialsError` if it can't be read."""
    text = settings.docker_auth_config.get_secret_value()
    if not text and not settings.docker_config:
        return {}

    path = Path("BINDERY_DOCKER_AUTH_CONFIG" if text else settings.docker_config).expanduser()
    if path.is_dir():
        path = path / "config.json"
    try:
        raw: Any = json.loads(text or path.read_bytes())
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path} can't be read ({type(error).__name__})") from error

    auths = only_dict(only_dict(raw).get("auths"))
    return {str(host): entry for host, entry in auths.items() if isinstance(entry, dict) and entry}


def _auths_entry(login: Login) -> dict[str, str]:
    tokens = {"identitytoken": login.identity_token, "registrytoken": login.registry_token}
    entry = {name: token for name, token in tokens.items() if token}
    if login.username or login.password:
        entry["auth"] = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    return entry
