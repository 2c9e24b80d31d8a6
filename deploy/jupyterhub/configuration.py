"""Configuration that all our hubs share, read from the environment; docs/settings.md lists the variables."""

import logging
import math
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.jupyterhub import database_away

_EXPECTED_WARNINGS = (
    "is slow to start", "is slow to become responsive", "has no version header", "Using custom route for Hub",
)  # fmt: skip
_SECRETS = {
    "BINDERY_HUB_API_TOKEN", "BINDERY_CULLER_API_TOKEN", "BINDERY_PROXY_API_PASSWORD", "JUPYTERHUB_CRYPT_KEY"
}  # fmt: skip
_NEVER_SECONDS = 10 * 365 * 86400


def data_folder() -> Path:
    """Return the folder for the hub's state, and for the process spawner's images and servers."""
    return Path(os.environ.get("BINDERY_DATA_DIR", "data")).absolute()


def state_folder() -> Path:
    """Return the folder for the hub's state alone."""
    return data_folder() / "hub"


def strip_secrets() -> None:
    """Remove white space around secrets in the environment: a Secret made from a file ends with a newline."""
    for name in _SECRETS & os.environ.keys():
        os.environ[name] = os.environ[name].strip()


def configure_hub(c: Any) -> None:
    """Set the hub's addresses, the folder of its state, and the rights of its services."""
    state = state_folder()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    c.JupyterHub.bind_url = os.environ["BINDERY_HUB_BIND_URL"]
    c.JupyterHub.hub_bind_url = listen_url()
    if connect_url := os.environ.get("BINDERY_HUB_CONNECT_URL"):
        c.JupyterHub.hub_connect_url = connect_url
    c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")

    # Proxy and servers outlive the hub: a hub that is killed and started again finds both.
    c.JupyterHub.cleanup_servers = os.environ.get("BINDERY_HUB_STOPS_SERVERS", "false") == "true"
    c.JupyterHub.cleanup_proxy = False

    # Nobody logs in: the launcher makes users, and removes them, as the culler does.
    c.JupyterHub.authenticator_class = "null"
    c.Authenticator.any_allow_config = True  # else the hub warns that nobody may log in
    c.JupyterHub.services = [{"name": "bindery-launcher", "api_token": os.environ["BINDERY_HUB_API_TOKEN"]}, culler()]
    c.JupyterHub.load_roles = roles()


def listen_url() -> str:
    """Return where the hub listens, by an address or a name that has it: `SystemExit` if that is not known here.

    A container in several networks listens in one of them alone by a name that it has only there.
    """
    host = (os.environ.get("BINDERY_HUB_LISTEN_HOST") or "127.0.0.1").strip("[]")
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        sys.exit(
            f"BINDERY_HUB_LISTEN_HOST is {host!r}, which is no address and no name that is known here "
            f"({error.strerror}): name an address of this machine or container, or a name that it has."
        )
    in_url = f"[{host}]" if ":" in host else host
    return f"http://{in_url}:{os.environ['BINDERY_HUB_PORT']}"


def roles() -> list[dict[str, object]]:
    """Return the roles of launcher and culler, with no more rights than they need."""
    return [
        {"name": "bindery-launcher", "services": ["bindery-launcher"], "scopes": ["admin:users", "servers"]},
        {
            "name": "bindery-culler",
            "services": ["bindery-culler"],
            "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers", "delete:users"],
        },
    ]


def culler() -> dict[str, object]:
    """Return the idle culler as a service: run elsewhere if it has a token, else run by the hub."""
    if token := os.environ.get("BINDERY_CULLER_API_TOKEN"):
        return {"name": "bindery-culler", "api_token": token}
    idle = math.ceil(float(os.environ.get("BINDERY_IDLE_TIMEOUT_SECONDS", "600"))) or _NEVER_SECONDS
    max_age = math.ceil(float(os.environ.get("BINDERY_MAX_AGE_SECONDS", "21600")))
    command = [
        *(sys.executable, "-m", "jupyterhub_idle_culler", "--config=", "--cull-users=True", f"--timeout={idle}"),
        f"--cull-every={int(float(os.environ.get('BINDERY_CULL_EVERY_SECONDS', '60')))}",
        f"--max-age={max_age}",
    ]
    return {"name": "bindery-culler", "command": command}


def configure_traefik(c: Any) -> None:
    """Configure a separate traefik as the proxy, which reads its routes from a file."""
    import bcrypt  # other hubs that start our servers need neither this nor our proxy

    from deploy.jupyterhub.proxy import BinderyTraefikProxy

    ended_url = os.environ.get("BINDERY_ENDED_SERVERS_URL", "")
    if ended_url:
        # Nobody logs in, so browsers need no page of the hub's, least of all instead of their server's.
        c.JupyterHub.hub_routespec = f"{_base_path()}/hub/api/"
    c.BinderyTraefikProxy.ended_url = ended_url
    c.BinderyTraefikProxy.connect_seconds = float(os.environ.get("BINDERY_SERVER_CONNECT_SECONDS", "3"))

    password = os.environ["BINDERY_PROXY_API_PASSWORD"]
    c.JupyterHub.proxy_class = BinderyTraefikProxy
    c.TraefikFileProviderProxy.should_start = False
    c.TraefikFileProviderProxy.dynamic_config_file = os.environ["BINDERY_PROXY_RULES_FILE"]
    c.TraefikFileProviderProxy.traefik_api_url = os.environ["BINDERY_PROXY_API_URL"]
    c.TraefikFileProviderProxy.traefik_api_username = os.environ["BINDERY_PROXY_API_USERNAME"]
    c.TraefikFileProviderProxy.traefik_api_password = password

    # Traefik verifies the password at each call, at least twice per launch. It is long and random, so a costly hash
    # would protect nothing and slow down every launch.
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    c.TraefikFileProviderProxy.traefik_api_hashed_password = hashed


def _base_path() -> str:
    """Return the path below which the hub and its servers are, without a slash at its end: mostly there is none."""
    return urlsplit(os.environ["BINDERY_HUB_BIND_URL"]).path.rstrip("/")


def configure_servers(c: Any, spawner: type) -> None:
    """Configure how servers are started, by any spawner, and what their launcher hears while the database is away."""
    database_away.answer_unavailable()
    c.JupyterHub.spawner_class = spawner
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.active_server_limit = 0  # seats are the limit
    c.JupyterHub.concurrent_spawn_limit = int(float(os.environ.get("BINDERY_CONCURRENT_SPAWN_LIMIT", "100")))

    # The call that starts a server waits this long for it: long enough to answer a malformed request with a 400, short
    # enough that the launcher follows the progress of all others.
    c.JupyterHub.tornado_settings.update({"slow_spawn_timeout": 0.3})
    # The hub would warn about that at each launch, and about each server because it is a plain Jupyter Server.
    logging.getLogger("JupyterHub").addFilter(
        lambda record: not any(text in str(record.msg) for text in _EXPECTED_WARNINGS)
    )

    ours = c[spawner.__name__]
    ours.apply_user_options = lambda spawner, options: spawner.apply_binder_options()
    ours.cors_allow_origin = os.environ.get("BINDERY_ALLOWED_ORIGINS", "")
    ours.answer_timeout_seconds = answer_seconds()
    ours.poll_interval = int(float(os.environ.get("BINDERY_SERVER_POLL_SECONDS", "10")))
    # Repositories of strangers may fail any number of times: the hub must not restart for that.
    ours.consecutive_failure_limit = 0


def answer_seconds() -> float:
    """Return how long a server that runs may take to answer."""
    return float(os.environ.get("BINDERY_SERVER_START_TIMEOUT_SECONDS", "120"))


def configure_containers(c: Any, spawner: type) -> None:
    """Configure how servers in containers are started, whose images may have to be pulled first."""
    configure_servers(c, spawner)
    # The deadlines of launcher and spawner come first, because they can say why a start failed.
    longest = math.ceil(float(os.environ.get("BINDERY_SERVER_START_MAX_SECONDS", "1800")))
    c[spawner.__name__].start_timeout = longest + int(answer_seconds()) + 20
