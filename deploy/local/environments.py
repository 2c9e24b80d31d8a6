"""The whole environment of each component: the shared variables, those of the user for it, and those of the stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from deploy.local.addresses import Addresses
from deploy.local.components import kind_of
from deploy.local.installation import Installation
from deploy.local.proxy import rules_file
from deploy.local.redis import redis_url
from deploy.local.settings import Settings
from deploy.local.variables import read_by, shared_environment, variables_of

PROXY_USER = "bindery"
BACKENDS = ("resolver", "builder", "launcher")
"""The services behind the gateway."""

DRAIN_SECONDS = 3
"""How long open streams may go on after Ctrl-C: it leaves time before the component is killed."""


@dataclass(frozen=True, kw_only=True)
class Environments:
    """The environments of the components of one stack. The user's variables never replace those of the stack."""

    settings: Settings
    installation: Installation
    addresses: Addresses
    environ: Mapping[str, str]
    """The user's environment."""

    @property
    def redis_prefix(self) -> str:
        """Beginning of all keys in Redis."""
        return self.environ.get("BINDERY_REDIS_PREFIX", "bindery")

    def redis(self) -> dict[str, str]:
        """Return the environment of Redis."""
        return self._base | self._of_user("redis")

    def proxy(self) -> dict[str, str]:
        """Return the environment of the proxy."""
        return self._base | self._of_user("proxy")

    def hub(self) -> dict[str, str]:
        """Return the environment of the hub."""
        stops_servers = self.settings.servers_by != "process"  # processes are ended by their records
        variables = {
            "BINDERY_SPAWNER": self.settings.servers_by,
            "BINDERY_HUB_STOPS_SERVERS": str(stops_servers).lower(),
            "BINDERY_DATA_DIR": str(self.settings.data_dir),
            "BINDERY_HUB_API_TOKEN": self.installation.hub_api_token,
            "BINDERY_CULLER_API_TOKEN": self.installation.culler_api_token,
            "BINDERY_HUB_BIND_URL": self.addresses.proxy_url,
            "BINDERY_HUB_PORT": str(self.addresses.ports.hub.number),
            "BINDERY_PROXY_API_URL": self.addresses.proxy_api_url,
            "BINDERY_PROXY_API_USERNAME": PROXY_USER,
            "BINDERY_PROXY_API_PASSWORD": self.installation.proxy_api_password,
            "BINDERY_PROXY_RULES_FILE": str(rules_file(self.settings.data_dir)),
            "BINDERY_ENDED_SERVERS_URL": f"{self.settings.url}/ended",
            "JUPYTERHUB_CRYPT_KEY": self.installation.hub_crypt_key,
        }

        return self._base | self._kubeconfig() | self._of_user("hub") | variables

    def culler(self) -> dict[str, str]:
        """Return the environment of the culler."""
        return self._base | self._of_user("culler") | {"JUPYTERHUB_API_TOKEN": self.installation.culler_api_token}

    def service(self, name: str, listen: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of one of our services: of the variables for services, those that it reads."""
        kind = kind_of(name)
        names = read_by(kind)
        variables = self._of_every_service() | self._of_service(kind) | dict(listen)

        return (
            self._base
            | {variable: value for variable, value in self._defaults().items() if variable in names}
            | self._of_user(kind)
            | {variable: value for variable, value in variables.items() if variable in names}
        )

    def _defaults(self) -> dict[str, str]:
        """Return the variables of services that one of the user's replaces."""
        drain_seconds = int(min(DRAIN_SECONDS, self.settings.stop_timeout_seconds / 2))
        return {"BINDERY_LOG_FORMAT": "text", "BINDERY_DRAIN_SECONDS": str(drain_seconds)}

    def _of_every_service(self) -> dict[str, str]:
        return {
            "BINDERY_LOCAL_MODE": "true",
            "BINDERY_DATA_DIR": str(self.settings.data_dir),
            "BINDERY_INSTALLATION_ID": self.installation.installation_id,
            "BINDERY_REDIS_PREFIX": self.redis_prefix,
            "BINDERY_SERVICE_TOKEN": self.installation.service_token,
            "BINDERY_PUBLIC_URL": self.settings.url,
            "BINDERY_HUB_URL": f"http://{self.settings.servers_host}:{self.addresses.ports.proxy.number}/",
        }

    def _of_service(self, kind: str) -> dict[str, str]:
        password = self.installation.redis_password(kind)
        redis = {"BINDERY_REDIS_URL": redis_url(self.addresses.redis_socket, kind, password)}
        secret = {"BINDERY_INSTALLATION_SECRET": self.installation.installation_secret}

        if kind == "gateway":
            start_token = {"BINDERY_START_TOKEN": self.settings.start_token.get_secret_value()}
            stages = {f"BINDERY_{name.upper()}_URL": self.addresses.socket_url(name) for name in BACKENDS}
            return redis | secret | start_token | stages

        if kind == "launcher":
            hub = {
                "BINDERY_HUB_API_URL": self.addresses.hub_api_url,
                "BINDERY_HUB_API_TOKEN": self.installation.hub_api_token,
                "BINDERY_HUB_CHECKS_PROXY": "true",
            }
            return redis | secret | hub

        if kind == "resolver":
            return redis | {"BINDERY_POLICY_DIR": str(self.settings.data_dir / "policy")}

        return redis

    def _kubeconfig(self) -> dict[str, str]:
        """Return the user's kubeconfig if the hub starts pods: the builder has a setting of its own for that."""
        if self.settings.servers_by == "kubernetes" and "KUBECONFIG" in self.environ:
            return {"KUBECONFIG": self.environ["KUBECONFIG"]}

        return {}

    def _of_user(self, kind: str) -> dict[str, str]:
        return variables_of(kind, self.settings, self.environ)

    @cached_property
    def _base(self) -> dict[str, str]:
        return shared_environment(self.environ)
