"""What our own hub needs before it starts: each thing that is missing is said in one sentence, without a traceback."""

import errno
import os
import socket
from collections.abc import Mapping

_REQUIRED = {
    "BINDERY_HUB_API_TOKEN": "a secret of your own, the same for the launcher",
    "BINDERY_PROXY_API_PASSWORD": "the password of the proxy's API",
    "BINDERY_PROXY_API_USERNAME": "the user of the proxy's API",
    "BINDERY_PROXY_API_URL": "the address of the proxy's API",
    "BINDERY_PROXY_RULES_FILE": "the file that the proxy reads its routes from",
    "BINDERY_HUB_BIND_URL": "the hub's address at the proxy",
    "BINDERY_HUB_PORT": "the port that the hub listens at",
}
"""Variables without a default, secrets first, and what each is."""

_CONNECT_SECONDS = 5.0


def start_problem(environ: Mapping[str, str]) -> str:
    """Return why the hub can't start, and what to do; nothing if it can."""
    missing = [f"{name} to {meaning}" for name, meaning in _REQUIRED.items() if not environ.get(name)]
    if missing:
        return f"The hub can't start: set {', and '.join(missing)}."
    if environ.get("BINDERY_SPAWNER") == "docker":
        return _engine_problem(environ.get("BINDERY_DOCKER_HOST") or "unix:///var/run/docker.sock")
    return ""


def _engine_problem(docker_host: str) -> str:
    """Return why the engine's socket can't be opened. An engine that is only away does not matter: it may come back."""
    path = docker_host.removeprefix("unix://")
    if path == docker_host:
        return ""

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno == errno.EACCES:
                return (
                    f"The hub can't start: its process, of user {os.getuid()}, may not open {path}. Give it the "
                    f"socket's group, which `stat -c %g {path}` prints: with docker-compose.yml as DOCKER_GID in .env."
                )
            if error.errno == errno.ENOENT:
                return (
                    f"The hub can't start: there is no socket {path}. Start the engine, or name its socket in "
                    "BINDERY_DOCKER_HOST."
                )
    return ""
