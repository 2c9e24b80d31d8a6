"""The id and the secrets of this installation, created once and kept in the data folder."""

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from deploy.local.processes import write_atomically
from deploy.local.settings import StartupError

FILE = "installation.json"
"""In the data folder, readable by its owner alone. A folder that has this file was made by Bindery."""


def _secret() -> str:
    return secrets.token_hex(32)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The id (12 hex digits) and the secrets (64 hex digits each) of an installation."""

    installation_id: str = field(default_factory=lambda: secrets.token_hex(6))
    installation_secret: str = field(default_factory=_secret, repr=False)
    redis_gateway_password: str = field(default_factory=_secret, repr=False)
    redis_resolver_password: str = field(default_factory=_secret, repr=False)
    redis_builder_password: str = field(default_factory=_secret, repr=False)
    redis_worker_password: str = field(default_factory=_secret, repr=False)
    redis_launcher_password: str = field(default_factory=_secret, repr=False)
    redis_health_password: str = field(default_factory=_secret, repr=False)
    redis_admin_password: str = field(default_factory=_secret, repr=False)
    service_token: str = field(default_factory=_secret, repr=False)
    hub_api_token: str = field(default_factory=_secret, repr=False)
    culler_api_token: str = field(default_factory=_secret, repr=False)
    proxy_api_password: str = field(default_factory=_secret, repr=False)
    hub_crypt_key: str = field(default_factory=_secret, repr=False)

    def redis_password(self, user: str) -> str:
        """Return the password of one of Redis's users."""
        return str(getattr(self, f"redis_{user}_password"))


def open_installation(data_dir: Path) -> Installation:
    """Return the installation of a data folder, created now if the folder is new or empty.

    From then on no other user may enter the folder. Raise `StartupError` for a folder that holds other things, since
    `make clean` deletes the whole data folder, and for a folder of another user.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / FILE
    if path.exists():
        _restrict(data_dir)
        return _read(path)

    if foreign := sorted(entry.name for entry in data_dir.iterdir() if entry.name not in {"run", "logs"}):
        raise StartupError(
            f"{data_dir} holds other things already ({foreign[0]}): point BINDERY_DATA_DIR at a new or empty folder."
        )

    _restrict(data_dir)
    installation = Installation()
    write_atomically(path, json.dumps({"v": 1} | asdict(installation), indent=1))
    return installation


def _restrict(data_dir: Path) -> None:
    """Close the folder to other users: it may have existed before, or been created with a folder inside it."""
    try:
        data_dir.chmod(0o700)
    except PermissionError:
        raise StartupError(
            f"{data_dir} belongs to another user: point BINDERY_DATA_DIR at a folder of your own, new or empty."
        ) from None


def _read(path: Path) -> Installation:
    try:
        record = json.loads(path.read_text())
        values = {field.name: str(record[field.name]) for field in fields(Installation) if field.name in record}
        installation = Installation(**values)
    except (ValueError, TypeError) as error:
        raise StartupError(
            f"{path} can't be read ({error}): move the data folder away, or run `make clean`."
        ) from error

    if len(values) < len(fields(Installation)):  # written by a release that had fewer secrets
        write_atomically(path, json.dumps(record | asdict(installation), indent=1))
    return installation
