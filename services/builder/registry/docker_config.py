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


@dataclass(frozen=True)
class _Read:
    """The file as it was when it had this mark."""

    mark: tuple[int, int, int]
    auths: dict[str, Any]
    helpers: dict[str, str]
    store: str


class DockerConfig:
    """The logins in one `config.json`. A missing file is no login; the file is read again whenever it has changed."""

    def __init__(self, path: Path, *, is_wanted: bool = False) -> None:
        self._path = path
        self._is_wanted = is_wanted
        self._read: _Read | None = None

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self:
        """That of the settings, else of `$DOCKER_CONFIG`, else of `~/.docker`; a folder means its `config.json`."""
        named = settings.docker_config or os.environ.get("DOCKER_CONFIG", "")
        path = Path(named or "~/.docker").expanduser()
        is_file = path.is_file() or (bool(settings.docker_config) and path.suffix == ".json")
        return cls(path if is_file else path / "config.json", is_wanted=bool(named))

    async def for_(self, registry: str, repository: str) -> Login:
        """Raises `CredentialsError` when the file is there but can't be read."""
        try:
            status = self._path.stat()
        except OSError as error:
            why = f"{self._path} can't be read: {error.strerror}"
            return Login(note=why if self._is_wanted or not isinstance(error, FileNotFoundError) else "")
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._read is None or self._read.mark != mark:
            self._read = self._load(mark)
        return self._login(self._read, registry, repository)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _load(self, mark: tuple[int, int, int]) -> _Read:
        try:
            raw = json.loads(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("docker_config_unreadable", path=str(self._path), error=type(error).__name__)
            raise CredentialsError(f"the builder's {self._path.name} can't be read ({type(error).__name__})") from error
        if not isinstance(raw, dict):
            raise CredentialsError(f"the builder's {self._path.name} is not a JSON object")
        helpers = {key: name for key, name in only_dict(raw.get("credHelpers")).items() if isinstance(name, str)}
        store = raw.get("credsStore")
        read = _Read(mark, only_dict(raw.get("auths")), helpers, store if isinstance(store, str) else "")
        if helpers or read.store:
            names = sorted({*helpers.values(), *filter(None, [read.store])})
            log.warning("credential_helpers_not_run", path=str(self._path), helpers=names)
        return read

    def _login(self, read: _Read, registry: str, repository: str) -> Login:
        found = _best(read.auths, registry, repository)
        login = (
            _entry(only_dict(found[1]), f"auths[{found[0]!r}] of the builder's {self._path.name}") if found else Login()
        )
        if not login.is_anonymous:
            return login
        helper = _best(read.helpers, registry, repository)
        if name := helper[1] if helper else read.store:
            note = f"{self._path} leaves its login to the credential helper docker-credential-{name}, which is not run"
            return Login(note=note)
        return Login(note=f"{self._path} has no login for it")


def _best(entries: dict[str, Any], registry: str, repository: str) -> tuple[str, Any] | None:
    """The entry for a repository, that with the longest path first (`quay.io/team` before `quay.io`)."""
    best: tuple[int, str, Any] | None = None
    for key, value in entries.items():
        host, path = _host_and_path(key)
        fits = host == registry.lower() and (not path or f"{repository}/".startswith(f"{path}/"))
        if fits and (best is None or len(path) > best[0]):
            best = (len(path), key, value)
    return best and best[1:]


def _host_and_path(key: str) -> tuple[str, str]:
    """A key of `auths` in one form: `https://index.docker.io/v1/`, `quay.io/team`, `registry.example.org:5000`."""
    parts = urlsplit(key if "://" in key else f"//{key}")
    host, path = parts.netloc.lower().rpartition("@")[2], parts.path.strip("/")
    if path in {"v1", "v2"}:
        path = ""
    return DOCKER_HUB if is_docker_hub(host) else host, path


def _entry(entry: dict[str, Any], where: str) -> Login:
    fields = {name: value for name, value in entry.items() if isinstance(value, str)}
    username, password = fields.get("username", ""), fields.get("password", "")
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
