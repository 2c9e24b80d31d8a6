"""What repo2docker's container authenticates with at registries: to push its image, and to pull its base."""

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
from services.builder.registry.credentials import Credentials, CredentialsError, Login, make_credentials
from services.builder.registry.reference import DOCKER_HUB, Reference
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError

_SECRET_ENTRIES = frozenset({"auth", "password", "identitytoken", "registrytoken"})
_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class BuildLogins:
    """What one build is given: entries of `config.json`, and the one for the image's own registry, if there is any."""

    auths: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    registry: str = ""
    own: Login = field(default_factory=Login)

    @property
    def config_json(self) -> str:
        """Docker's client configuration with these logins and nothing else."""
        return json.dumps({"auths": self.auths})

    @property
    def engine_config(self) -> str:
        """The login as a line of repo2docker's configuration; empty for one without a password, which it can't use.

        Source: the trait `registry_credentials` of repo2docker's `ContainerEngine`. It reads the same from
        CONTAINER_ENGINE_REGISTRY_CREDENTIALS, as BinderHub gives it; but of an environment more is told than of a file.
        """
        if not self.own.password:
            return ""
        login = {"registry": self.registry, "username": self.own.username, "password": self.own.password}
        return f"c.ContainerEngine.registry_credentials = {login!r}\n"

    @property
    def secrets(self) -> Iterator[str]:
        """What must not be said of these logins."""
        for entry in self.auths.values():
            said = {name: value for name, value in entry.items() if name in _SECRET_ENTRIES and isinstance(value, str)}
            yield from said.values()
            with contextlib.suppress(ValueError):
                yield base64.b64decode(said.get("auth", "")).decode().partition(":")[2]


class Logins:
    """Finds a build's logins. Helper programs that the operator's file names are not in the container."""

    def __init__(self, settings: BuilderSettings) -> None:
        self._settings = settings
        self._credentials: Credentials = make_credentials(settings)
        self.redaction = Redaction()
        """Of what any build was given by this process, for all logs that it reads."""
        with contextlib.suppress(BinderyError):  # said of each build that would get them
            self.redaction.learn(git_secrets(settings))

    async def for_image(self, image: str) -> BuildLogins:
        """The operator's `auths`, and the login for the image's own registry in whatever way that is had.

        Raises `ExecutorUnavailableError` when nobody can say it now.
        """
        registry, login = "", Login()
        try:
            auths = await asyncio.to_thread(_auths, self._settings.docker_config)
            if self._settings.build_push:
                place = Reference.parse(image)
                login = await self._credentials.for_(place.host, place.repository)
                registry = _HUB_KEY if place.host == DOCKER_HUB else place.host
                if not login.is_anonymous:
                    auths[registry] = _entry(login)
        except CredentialsError as error:
            raise ExecutorUnavailableError(str(error)) from error
        found = BuildLogins(auths, registry, login)
        self.redaction.learn(found.secrets)
        return found

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._credentials.aclose()


def _auths(named: str) -> dict[str, dict[str, str]]:
    if not named:
        return {}
    path = Path(named).expanduser()
    path = path / "config.json" if path.is_dir() else path
    try:
        raw: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path} can't be read ({type(error).__name__})") from error
    found = raw.get("auths") if isinstance(raw, dict) else None
    entries = found.items() if isinstance(found, dict) else ()
    return {str(host): entry for host, entry in entries if isinstance(entry, dict) and entry}


def _entry(login: Login) -> dict[str, str]:
    given = {"identitytoken": login.identity_token, "registrytoken": login.registry_token}
    entry = {name: value for name, value in given.items() if value}
    if login.username or login.password:
        entry["auth"] = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    return entry
