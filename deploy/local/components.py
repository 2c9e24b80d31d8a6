"""The parts of the stack: what each is started with, what it is told, and how it shows that it is well."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import httpx

from deploy.local.health import Health, always_well, http_health, redis_health, socket_health
from deploy.local.installation import Installation
from deploy.local.ports import HeldPort, Ports
from deploy.local.proxy import proxy_command, rules_file
from deploy.local.redis import redis_command, redis_url
from deploy.local.settings import CHECKOUT, Settings, StartupError
from deploy.local.sockets import socket_folder
from deploy.local.variables import read_by, variables_of
from deploy.redis.users import USERS, users_file

HUB_CONFIG = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
PROXY_USER = "bindery"
DRAIN_SECONDS = 3
"""How long open streams may go on after Ctrl-C, with time left before the part is killed."""

STOP_ORDER = ("gateway", "launcher", "worker", "builder", "resolver", "culler", "hub", "proxy", "redis")
"""Who takes new work ends first, who keeps the records ends last. `worker-2` ends with `worker`."""

# What a part sees of the user's own environment. Credentials that lie there for other programs are not for us.
PASSED = (
    *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
)
PASSED_PREFIXES = ("LC_", "SSL_CERT_", "XDG_")


@dataclass(frozen=True)
class Component:
    """One process of the stack. It starts when the parts named in `after` have been healthy once."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: Health = always_well
    after: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    """Open sockets that it inherits."""


def stop_stages(parts: Sequence[Component]) -> list[list[str]]:
    """The parts' names in the order in which they end; those of one stage end together."""
    names = [part.name for part in parts]
    known = [[name for name in names if name.rpartition("-")[0] == kind or name == kind] for kind in STOP_ORDER]
    others = [name for name in names if not any(name in stage for stage in known)]
    return [others, *known]


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every part gets: the allow-listed part of the user's environment, our own programs first in its PATH."""
    passed = {
        name: value
        for name, value in environ.items()
        if name.upper() in PASSED or name.startswith(PASSED_PREFIXES)  # the proxies' names are often in lower case
    }
    direct = ",".join(filter(None, (environ.get("no_proxy") or environ.get("NO_PROXY"), "127.0.0.1,localhost")))
    return passed | {
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
    }


def plan_components(
    settings: Settings,
    installation: Installation,
    client: httpx.AsyncClient,
    environ: Mapping[str, str],
    ports: Ports,
) -> list[Component]:
    """Write the configurations and list the parts, in the order in which they are shown."""
    proxy_port, proxy_api_port, hub_port = ports.proxy.number, ports.proxy_api.number, ports.hub.number
    sockets = socket_folder(settings.data_dir, environ)
    redis_socket = sockets / "redis.sock"
    base = base_environment(environ)
    redis_prefix = environ.get("BINDERY_REDIS_PREFIX", "bindery")
    python = sys.executable

    hub_api_url = f"http://127.0.0.1:{hub_port}/hub/api/"
    proxy_url = f"http://127.0.0.1:{proxy_port}/"
    stages = ("resolver", "builder", "launcher")
    drain = {"BINDERY_DRAIN_SECONDS": str(int(min(DRAIN_SECONDS, settings.stop_timeout_seconds / 2)))}
    unless_said = {"BINDERY_LOG_FORMAT": "text"} | drain
    every_service = {
        "BINDERY_LOCAL_MODE": "true",
        "BINDERY_DATA_DIR": str(settings.data_dir),
        "BINDERY_INSTALLATION_ID": installation.installation_id,
        "BINDERY_REDIS_PREFIX": redis_prefix,
        "BINDERY_SERVICE_TOKEN": installation.service_token,
        "BINDERY_PUBLIC_URL": settings.url,
        "BINDERY_HUB_URL": f"http://{settings.servers_host}:{proxy_port}/",
    }
    signs = {"BINDERY_INSTALLATION_SECRET": installation.installation_secret}
    told = {
        "gateway": signs
        | {"BINDERY_START_TOKEN": settings.start_token.get_secret_value()}
        | {f"BINDERY_{name.upper()}_URL": f"unix://{quote(str(sockets / f'{name}.sock'))}" for name in stages},
        "launcher": signs
        | {
            "BINDERY_HUB_API_URL": hub_api_url,
            "BINDERY_HUB_API_TOKEN": installation.hub_api_token,
            "BINDERY_HUB_CHECKS_PROXY": "true",
        },
    }

    def environment(name: str, **listen: str) -> dict[str, str]:
        kind = name.partition("-")[0]
        here = {f"BINDERY_LISTEN_{where}": value for where, value in listen.items()}
        known = read_by(kind)
        redis = {"BINDERY_REDIS_URL": redis_url(redis_socket, kind, installation.redis_password(kind))}
        ours = every_service | told.get(kind, {}) | redis | here
        return (
            base
            | {name: value for name, value in unless_said.items() if name in known}
            | variables_of(kind, settings, environ)
            | {name: value for name, value in ours.items() if name in known}
        )

    def inner(name: str, module: str) -> Component:
        socket = sockets / f"{name}.sock"
        health = socket_health(socket, settings.health_timeout_seconds, installation.service_token)
        return Component(name, (python, "-m", module), environment(name, SOCKET=str(socket)), health, after=("redis",))

    def gateway(name: str, port: HeldPort) -> Component:
        told = environment(name, SOCKET="", HOST=settings.host, PORT=str(port.number))
        health = http_health(client, f"http://{settings.host}:{port.number}/health")
        command = port.handed_over("http", (python, "-m", "services.gateway"))
        return Component(name, command, told, health, after=("redis",))

    in_containers = settings.servers_by != "process"
    # A kubeconfig is nobody's but the hub's here: the builder has a setting of its own for that.
    kubeconfig = {}
    if settings.servers_by == "kubernetes" and "KUBECONFIG" in environ:
        kubeconfig["KUBECONFIG"] = environ["KUBECONFIG"]
    hub_environment = (
        base
        | kubeconfig
        | variables_of("hub", settings, environ)
        | {
            "BINDERY_SPAWNER": settings.servers_by,
            "BINDERY_HUB_STOPS_SERVERS": str(in_containers).lower(),  # processes are ended by their records
            "BINDERY_DATA_DIR": str(settings.data_dir),
            "BINDERY_HUB_API_TOKEN": installation.hub_api_token,
            "BINDERY_CULLER_API_TOKEN": installation.culler_api_token,
            "BINDERY_HUB_BIND_URL": proxy_url,
            "BINDERY_HUB_PORT": str(hub_port),
            "BINDERY_PROXY_API_URL": f"http://127.0.0.1:{proxy_api_port}",
            "BINDERY_PROXY_API_USERNAME": PROXY_USER,
            "BINDERY_PROXY_API_PASSWORD": installation.proxy_api_password,
            "BINDERY_PROXY_RULES_FILE": str(rules_file(settings.data_dir)),
            "JUPYTERHUB_CRYPT_KEY": installation.hub_crypt_key,
        }
    )
    cull = (
        "--config=",  # without it, an idle_culler_config.py in the folder that it runs in would be executed
        "--cull-users=True",
        f"--url={hub_api_url.rstrip('/')}",
        f"--timeout={settings.idle_timeout_seconds}",
        f"--cull-every={settings.cull_every_seconds}",
        f"--max-age={settings.max_age_seconds}",
    )
    parts = [
        Component(
            "redis",
            redis_command(settings.data_dir, redis_socket, _redis_users(redis_prefix, installation)),
            base | variables_of("redis", settings, environ),
            redis_health(redis_socket, installation.redis_password("health"), settings.health_timeout_seconds),
        ),
        Component(
            "proxy",
            ports.proxy.handed_over(
                "http", proxy_command(settings.data_dir, proxy_port, proxy_api_port), ("auth_api", ports.proxy_api)
            ),
            base | variables_of("proxy", settings, environ),
            http_health(client, f"http://127.0.0.1:{proxy_api_port}/ping"),
        ),
        Component(
            "hub",
            ports.hub.handed_over("hub", (python, "-m", "deploy.local.hub", "-f", str(HUB_CONFIG))),
            hub_environment,
            http_health(client, f"{hub_api_url}health", f"{proxy_url}hub/api/health"),
        ),
        Component(
            "culler",
            (python, "-m", "jupyterhub_idle_culler", *cull),
            base | variables_of("culler", settings, environ) | {"JUPYTERHUB_API_TOKEN": installation.culler_api_token},
            after=("hub",),
        ),
        *(inner(name, f"services.{name}") for name in stages),
        *(inner(_numbered("worker", number), "services.builder.worker") for number in range(1, settings.workers + 1)),
        *(gateway(_numbered("gateway", number), port) for number, port in enumerate(ports.gateways, start=1)),
    ]
    return [replace(part, descriptors=ports.descriptors) for part in parts]


def _redis_users(prefix: str, installation: Installation) -> str:
    passwords = {user: installation.redis_password(user) for user in USERS}
    try:
        return users_file(f"{prefix}:{installation.installation_id}", passwords)
    except ValueError as error:
        raise StartupError(f"BINDERY_REDIS_PREFIX: {error}") from error


def _numbered(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}-{number}"
