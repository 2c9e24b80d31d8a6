"""What repo2docker's container authenticates with at registries: to push its image, and to pull its base."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.docker.container import config_json
from services.builder.executors.docker.settings import DockerSettings
from services.builder.registry.credentials import Credentials, CredentialsError, Login, make_credentials
from services.builder.registry.reference import DOCKER_HUB, Reference

_HUB_KEY = "https://index.docker.io/v1/"


class Logins:
    """Makes the `config.json` of a build. Helper programs that the operator's file names are not in the container."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._credentials: Credentials = make_credentials(settings)

    async def for_image(self, image: str) -> str:
        """The operator's `auths`, and the login for the image's own registry in whatever way that is had.

        Raises `ExecutorUnavailableError` when nobody can say it now.
        """
        try:
            auths = await asyncio.to_thread(_auths, self._settings.docker_config)
            if self._settings.build_push:
                place = Reference.parse(image)
                login = await self._credentials.for_(place.host, place.repository)
                if not login.is_anonymous:
                    auths[_HUB_KEY if place.host == DOCKER_HUB else place.host] = _entry(login)
        except CredentialsError as error:
            raise ExecutorUnavailableError(str(error)) from error
        return config_json(auths)

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
