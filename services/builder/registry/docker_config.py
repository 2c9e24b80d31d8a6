"""Logins from Docker's `config.json`, the file that `docker login` writes and that a push Secret holds."""

import base64
import binascii
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from services.builder.registry.credentials import CredentialsError, Login
from services.builder.registry.reference import DOCKER_HUB, is_docker_hub
from services.builder.registry.settings import RegistrySettings
from services.common.net.http import only_dict
from services.common.service.logging import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """The file's contents, and the version of the file that they were read from."""

    version: tuple[int, int, int]
    auths: dict[str, Any]
    helpers: dict[str, str]
    store: str


class DockerConfig:
    """The logins in one `config.json`. A missing file means no login; a changed file is read again."""

    def __init__(self, path: Path, *, is_configured: bool = False, text: str = "") -> None:
        """`text` is the content, if it is not in a file; `path` is then the name of it in messages."""
        self._path = path
        self._is_configured = is_configured
        self._text = text
        self._contents: _Contents | None = None

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self:
        """Return the content in the settings, else the file of the settings, of `$DOCKER_CONFIG`, or of `~/.docker`.

        A folder stands for its `config.json`.
        """
        if text := settings.docker_auth_config.get_secret_value():
            return cls(Path("BINDERY_DOCKER_AUTH_CONFIG"), text=text)

        configured = settings.docker_config or os.environ.get("DOCKER_CONFIG", "")
        path = Path(configured or "~/.docker").expanduser()
        is_file = path.is_file() or (bool(settings.docker_config) and path.suffix == ".json")
        return cls(path if is_file else path / "config.json", is_configured=bool(configured))

    async def login_for(self, registry: str, repository: str) -> Login:
        """Return the file's login for a repository. Raise `CredentialsError` if the file exists but can't be read."""
        if self._text:
            self._contents = self._contents or self._load((0, 0, 0))
            return self._login(self._contents, registry, repository)

        try:
            status = self._path.stat()
        except OSError as error:
            is_expected = not self._is_configured and isinstance(error, FileNotFoundError)
            return Login(note="" if is_expected else f"{self._path} can't be read: {error.strerror}")

        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._contents is None or self._contents.version != version:
            self._contents = self._load(version)
        return self._login(self._contents, registry, repository)

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""

    def _load(self, version: tuple[int, int, int]) -> _Contents:
        try:
            raw = json.loads(self._text or self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("docker_config_unreadable", path=str(self._path), error=type(error).__name__)
            raise CredentialsError(f"the builder's {self._path.name} can't be read ({type(error).__name__})") from error
        if not isinstance(raw, dict):
            raise CredentialsError(f"the builder's {self._path.name} is not a JSON object")

        helpers = {key: name for key, name in only_dict(raw.get("credHelpers")).items() if isinstance(name, str)}
        store = raw.get("credsStore")
        contents = _Contents(
            version=version,
            auths=only_dict(raw.get("auths")),
            helpers=helpers,
            store=store if isinstance(store, str) else "",
        )
        if helpers or contents.store:
            names = sorted({*helpers.values(), *filter(None, [contents.store])})
            log.warning("credential_helpers_not_run", path=str(self._path), helpers=names)
        return contents

    def _login(self, contents: _Contents, registry: str, repository: str) -> Login:
        match = _best_match(contents.auths, registry, repository)
        if match:
            key, entry = match
            login = _parse_entry(only_dict(entry), f"auths[{key!r}] of the builder's {self._path.name}")
            if not login.is_anonymous:
                return login

        helper = _best_match(contents.helpers, registry, repository)
        if name := helper[1] if helper else contents.store:
            note = f"{self._path} leaves its login to the credential helper docker-credential-{name}, which is not run"
            return Login(note=note)
        return Login(note=f"{self._path} has no login for it")


def _best_match(entries: dict[str, Any], registry: str, repository: str) -> tuple[str, Any] | None:
    """Return the key and entry for a repository: those with the longest path (`quay.io/team` before `quay.io`)."""
    best: tuple[int, str, Any] | None = None
    for key, value in entries.items():
        host, path = _host_and_path(key)
        is_match = host == registry.lower() and (not path or f"{repository}/".startswith(f"{path}/"))
        if is_match and (best is None or len(path) > best[0]):
            best = (len(path), key, value)
    return best and best[1:]


def _host_and_path(key: str) -> tuple[str, str]:
    """Split a key of `auths`: `https://index.docker.io/v1/`, `quay.io/team` or `registry.example.org:5000`."""
    parts = urlsplit(key if "://" in key else f"//{key}")
    host = parts.netloc.lower().rpartition("@")[2]
    path = parts.path.strip("/")
    if path in {"v1", "v2"}:
        path = ""
    return DOCKER_HUB if is_docker_hub(host) else host, path


def _parse_entry(entry: dict[str, Any], where: str) -> Login:
    """Return an entry of `auths` as a login. Raise `CredentialsError`; `where` names the entry in its message."""
    fields = {name: value for name, value in entry.items() if isinstance(value, str)}
    username = fields.get("username", "")
    password = fields.get("password", "")
    if encoded := fields.get("auth"):
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise CredentialsError(f"`auth` in {where} is not base64") from error
        username, _, password = decoded.rstrip("\0").partition(":")

    return Login(
        username=username,
        password=password,
        identity_token=fields.get("identitytoken", ""),
        registry_token=fields.get("registrytoken", ""),
    )
