"""What our own hub needs before it starts: each thing that is missing is said in one sentence, without a traceback."""

import errno
import math
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

_POSITIVE = "a number above 0"
_WHOLE = "a whole number above 0"
_OR_NONE = "a number, or 0 for no limit"
_WHOLE_OR_NONE = "a whole number, or 0 for no limit"
_NUMBERS = {
    "BINDERY_HUB_DB_TIMEOUT_SECONDS": _WHOLE,
    "BINDERY_HUB_DB_WAIT_SECONDS": _POSITIVE,
    "BINDERY_SERVER_CONNECT_SECONDS": _POSITIVE,
    "BINDERY_SERVER_START_TIMEOUT_SECONDS": _POSITIVE,
    "BINDERY_SERVER_START_MAX_SECONDS": _POSITIVE,
    "BINDERY_SERVER_POLL_SECONDS": _WHOLE,
    "BINDERY_CULL_EVERY_SECONDS": _WHOLE,
    "BINDERY_IDLE_TIMEOUT_SECONDS": _OR_NONE,
    "BINDERY_MAX_AGE_SECONDS": _OR_NONE,
    "BINDERY_CONCURRENT_SPAWN_LIMIT": _WHOLE_OR_NONE,
}
"""Variables that have a default, and to what they may be set."""

_CONNECT_SECONDS = 5.0


def start_problem(environ: Mapping[str, str]) -> str:
    """Return why the hub can't start, and what to do; nothing if it can."""
    missing = [f"{name} to {meaning}" for name, meaning in _REQUIRED.items() if not environ.get(name)]
    if missing:
        return f"The hub can't start: set {', and '.join(missing)}."
    wrong = [f"{name} to {meaning}" for name in _NUMBERS if (meaning := _number_wanted(name, environ))]
    if wrong:
        return f"The hub can't start: set {', and '.join(wrong)}, or unset it for the default."
    if environ.get("BINDERY_SPAWNER") == "docker":
        return _engine_problem(environ.get("BINDERY_DOCKER_HOST") or "unix:///var/run/docker.sock")
    return ""


def _number_wanted(name: str, environ: Mapping[str, str]) -> str:
    """Return which number a variable needs, if it has none that makes sense."""
    meaning = _NUMBERS[name]
    try:
        value = float(environ.get(name, "1"))
    except ValueError:
        return meaning
    is_enough = value > 0 or (value == 0 and meaning in {_OR_NONE, _WHOLE_OR_NONE})
    is_whole = value.is_integer() or meaning in {_POSITIVE, _OR_NONE}
    return "" if is_enough and is_whole and value < math.inf else meaning


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
