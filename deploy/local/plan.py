"""The plan of a stack: how each component is started, and how its health is checked."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import httpx

from deploy.local.addresses import Addresses
from deploy.local.components import Component, component_name
from deploy.local.environments import BACKENDS, Environments
from deploy.local.health import http_health, redis_health, socket_health
from deploy.local.installation import Installation
from deploy.local.ports import HeldPort, Ports
from deploy.local.proxy import proxy_command
from deploy.local.redis import redis_command
from deploy.local.settings import CHECKOUT, Settings, StartupError
from deploy.local.sockets import socket_folder
from deploy.redis.users import USERS, users_file

HUB_CONFIG = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"


def plan_components(
    settings: Settings,
    installation: Installation,
    client: httpx.AsyncClient,
    environ: Mapping[str, str],
    ports: Ports,
) -> list[Component]:
    """Write the configurations and return the components, in the order in which they are shown.

    `client` asks for their health; `environ` is the user's environment.
    """
    addresses = Addresses(socket_folder(settings.data_dir, environ), ports)

    environments = Environments(
        settings=settings,
        installation=installation,
        addresses=addresses,
        environ=environ,
    )

    plan = Plan(
        settings=settings,
        installation=installation,
        client=client,
        addresses=addresses,
        environments=environments,
    )

    return [replace(component, descriptors=ports.descriptors) for component in plan.components()]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plans each component of one stack."""

    settings: Settings
    installation: Installation
    client: httpx.AsyncClient
    addresses: Addresses
    environments: Environments

    def components(self) -> Iterator[Component]:
        """Yield the components in the order in which they are shown."""
        yield self._redis()
        yield self._proxy()
        yield self._hub()
        yield self._culler()

        yield self._service("resolver", "services.resolver")
        yield self._service("builder", "services.builder", needs=("worker",))
        yield self._service("launcher", "services.launcher", needs=("hub",))

        for number in range(1, self.settings.workers + 1):
            yield self._service(component_name("worker", number), "services.builder.worker")
        for number, port in enumerate(self.addresses.ports.gateways, start=1):
            yield self._gateway(component_name("gateway", number), port)

    def _redis(self) -> Component:
        socket = self.addresses.redis_socket
        password = self.installation.redis_password("health")

        return Component(
            name="redis",
            command=redis_command(self.settings.data_dir, socket, self._redis_users()),
            environment=self.environments.redis(),
            health=redis_health(socket, password, self.settings.health_timeout_seconds),
        )

    def _redis_users(self) -> str:
        prefix = self.environments.redis_prefix
        passwords = {user: self.installation.redis_password(user) for user in USERS}
        try:
            return users_file(f"{prefix}:{self.installation.installation_id}", passwords)
        except ValueError as error:
            raise StartupError(f"BINDERY_REDIS_PREFIX: {error}") from error

    def _proxy(self) -> Component:
        port = self.addresses.ports.proxy
        api_port = self.addresses.ports.proxy_api
        command = proxy_command(self.settings.data_dir, port.number, api_port.number)

        return Component(
            name="proxy",
            command=port.handed_over("http", command, ("auth_api", api_port)),
            environment=self.environments.proxy(),
            health=http_health(self.client, f"{self.addresses.proxy_api_url}/ping"),
        )

    def _hub(self) -> Component:
        command = (sys.executable, "-m", "deploy.local.hub", "-f", str(HUB_CONFIG))
        itself = f"{self.addresses.hub_api_url}health"
        behind_the_proxy = f"{self.addresses.proxy_url}hub/api/health"

        return Component(
            name="hub",
            command=self.addresses.ports.hub.handed_over("hub", command),
            environment=self.environments.hub(),
            health=http_health(self.client, itself, behind_the_proxy),
            needs=("proxy",),
        )

    def _culler(self) -> Component:
        arguments = (
            "--config=",  # without it, an idle_culler_config.py in the folder that it runs in would be executed
            "--cull-users=True",
            f"--url={self.addresses.hub_api_url.rstrip('/')}",
            f"--timeout={self.settings.idle_timeout_seconds}",
            f"--cull-every={self.settings.cull_every_seconds}",
            f"--max-age={self.settings.max_age_seconds}",
        )

        return Component(
            name="culler",
            command=(sys.executable, "-m", "jupyterhub_idle_culler", *arguments),
            environment=self.environments.culler(),
            after=("hub",),
        )

    def _service(self, name: str, module: str, *, needs: tuple[str, ...] = ()) -> Component:
        """Plan one of our services that listens at a Unix socket."""
        socket = self.addresses.socket(name)
        timeout_seconds = self.settings.health_timeout_seconds

        return Component(
            name=name,
            command=(sys.executable, "-m", module),
            environment=self.environments.service(name, {"BINDERY_LISTEN_SOCKET": str(socket)}),
            health=socket_health(socket, timeout_seconds, self.installation.service_token),
            after=("redis",),
            needs=needs,
        )

    def _gateway(self, name: str, port: HeldPort) -> Component:
        listen = {
            "BINDERY_LISTEN_SOCKET": "",
            "BINDERY_LISTEN_HOST": self.settings.host,
            "BINDERY_LISTEN_PORT": str(port.number),
        }

        return Component(
            name=name,
            command=port.handed_over("http", (sys.executable, "-m", "services.gateway")),
            environment=self.environments.service(name, listen),
            health=http_health(self.client, f"http://{self.settings.host}:{port.number}/health"),
            after=("redis",),
            needs=BACKENDS,
        )
