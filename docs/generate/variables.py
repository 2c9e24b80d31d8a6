"""Every variable that Bindery reads, and `services/common/service/setting_names.json`, which lists their names."""

import json
import re
from collections.abc import Sequence

from pydantic_settings import BaseSettings

from deploy.local.settings import CHECKOUT
from deploy.local.settings import Settings as UpSettings
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.registry.settings import RegistrySettings
from services.builder.settings import BuilderSettings
from services.common.git.forge_settings import ForgeSettings
from services.common.net.archive_addresses import ArchiveAddresses
from services.common.net.settings import OutboundSettings
from services.common.service.settings import ServiceSettings
from services.gateway.settings import GatewaySettings
from services.launcher.settings import LauncherSettings
from services.resolver.archive_settings import ArchiveSettings
from services.resolver.settings import ResolverSettings

VARIABLE = r"\bBINDERY_[A-Z_]*[A-Z]\b"
"""A regular expression that matches the whole name of a variable."""

CODE = ("services", "deploy", "bindery")
"""The folders whose files may name variables."""

GROUPS: Sequence[tuple[str, type[BaseSettings], str]] = (
    ("`make up`", UpSettings, "Read by `make up` itself, from the environment only."),
    ("Every service", ServiceSettings, "Read by the gateway, the resolver, the builder, its workers and the launcher."),
    ("Asking outside", OutboundSettings, "Read by the resolver, the builder and its workers."),
    ("Forges", ForgeSettings, "Read by the resolver, and by the builder's workers."),
    ("Archives", ArchiveAddresses, "Read by the resolver, the builder and its workers: mirrors, for instance."),
    ("Gateway", GatewaySettings, "Read by each gateway."),
    ("Resolver", ResolverSettings, "Read by the resolver."),
    ("Finding datasets", ArchiveSettings, "Read by the resolver."),
    ("Builder", BuilderSettings, "Read by the builder's API and by its workers."),
    (
        "The image registry",
        RegistrySettings,
        "Read by the builder's API and by its workers, for executors that push: [more](registry.md).",
    ),
    (
        "Containers of an engine",
        DockerSettings,
        "Read by the builder's API and by its workers, with the `docker` executor.",
    ),
    (
        "Jobs on Kubernetes",
        KubernetesSettings,
        "Read by the builder's API and by its workers, with the `kubernetes` executor.",
    ),
    ("Launcher", LauncherSettings, "Read by the launcher."),
)
"""The headings of docs/settings.md, each with the class of its settings and a sentence about who reads them."""

HUB = {
    "BINDERY_HUB_CONFIG_FILE": "A file of yours that the hub's configuration reads last: it may change everything.",
    "BINDERY_HUB_DB_URL": "URL of the hub's database, such as postgresql://user:password@host:5432/name: "
    "[more](hubs.md#the-hubs-database). Empty: the SQLite file `hub/jupyterhub.sqlite` in the folder of data.",
    "BINDERY_HUB_DB_TIMEOUT_SECONDS": "How long the hub, all of which waits meanwhile, may wait for its database to "
    "connect or to answer: [exactly](hubs.md#the-hubs-database). A whole number.",
    "BINDERY_HUB_DB_WAIT_SECONDS": "How long the hub waits at its start for a database that does not answer, or is "
    "locked.",
    "BINDERY_HUB_LISTEN_HOST": "Address that the hub itself listens on, or a name that has it; empty: 127.0.0.1.",
    "BINDERY_HUB_STOPS_SERVERS": "Whether servers end when the hub is stopped. Otherwise they go on, and the hub finds "
    "them again.",
    "BINDERY_HUB_CONNECT_URL": "Address at which the proxy reaches the hub, if it differs from where the hub listens.",
    "BINDERY_SERVERS_NETWORK": "The engine's network for servers in containers: "
    "[which](hubs.md#servers-in-containers).",
    "BINDERY_SERVERS_NAMESPACE": "The namespace for servers in pods, if not the hub's own.",
    "BINDERY_SERVERS_OWNER": "A ConfigMap in that namespace that [owns](hubs.md#servers-in-pods) the servers' pods and "
    "Secrets: whoever deletes it deletes them. Empty: nothing owns them.",
    "BINDERY_CONCURRENT_SPAWN_LIMIT": "Number of servers that the hub starts at once; the launcher asks again for a "
    "server that the hub refused.",
    "BINDERY_SERVER_POLL_SECONDS": "Time between two checks whether a server still runs, and when it was last used.",
    "BINDERY_SERVER_START_TIMEOUT_SECONDS": "Time that a server may take from its start to its first answer. The "
    "launcher reads the same variable, with the same default, for the whole start.",
    "BINDERY_HUB_BIND_URL": "Address of the proxy, for browsers.",
    "BINDERY_HUB_PORT": "Port of the hub itself.",
    "BINDERY_CULLER_API_TOKEN": "Token of the idle culler.",
    "BINDERY_PROXY_API_URL": "Address of the proxy's own API.",
    "BINDERY_PROXY_API_USERNAME": "User name for the proxy's API.",
    "BINDERY_PROXY_API_PASSWORD": "Password for the proxy's API.",
    "BINDERY_PROXY_RULES_FILE": "The file in which the hub gives the proxy its routes.",
    "BINDERY_ENDED_SERVERS_URL": "Address, as the proxy reaches it, of the gateway's answer to requests for servers "
    "that have ended: http://gateway:8585/ended. [More](hubs.md#servers-that-have-ended). Empty: the hub answers them.",
    "BINDERY_SERVER_CONNECT_SECONDS": "How long the proxy may take to connect to a server.",
}
"""Variables that only the hub's configuration reads, with their meaning. It shares others with services."""

OTHERS = {
    "BINDERY_CONFIG_FILE": (
        "none",
        "A YAML file with settings of the services; the environment takes precedence: [more](#the-file).",
    ),
    "BINDERY_GATEWAY_URL": (
        "`http://127.0.0.1:8585`",
        "The gateway that `bindery launch` asks, unless told otherwise.",
    ),
}
"""Variables that no settings class has, with their default and their meaning."""

FOR_PROGRAMS = {"BINDERY_RUN"}
"""What builds and servers are told, and nobody sets."""

FOR_TESTS = {"BINDERY_TEST_CACHE", "BINDERY_TEST_ENGINE_CACHE"}
"""Variables that are not settings: only tests read them."""


def variable_of(name: str) -> str:
    """Return the environment variable of a field of a settings class."""
    return f"BINDERY_{name.upper()}"


def documented_variables() -> set[str]:
    """Return every variable that docs/settings.md documents."""
    fields = {variable_of(name) for _, kind, _ in GROUPS for name in kind.model_fields}
    return fields | set(HUB) | set(OTHERS)


def compose_variables() -> set[str]:
    """Return the variables of docker-compose.yml, which `.env.example` explains; some are settings of services, too."""
    return set(re.findall(rf"^#?({VARIABLE})=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))


def variables_in_code() -> set[str]:
    """Return every variable whose whole name is in the code."""
    variables: set[str] = set()
    for folder in CODE:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in {".py", ".sh", ".html", ".js"}:
                variables |= set(re.findall(VARIABLE, path.read_text()))
    return variables - FOR_TESTS - FOR_PROGRAMS


def known_names() -> str:
    """Return the file of names that are known in the YAML file and in the environment.

    `services/common/service/setting_names.py` reads it.
    """
    services = {name for _, kind, _ in GROUPS if issubclass(kind, ServiceSettings) for name in kind.model_fields}
    names = {"services": sorted(services), "environment": sorted(documented_variables() | FOR_PROGRAMS)}
    return json.dumps(names, indent=1, sort_keys=True) + "\n"
