"""Settings of the embedded stack, read from the environment (`BINDERY_<NAME>`)."""

import re
import secrets
from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SPAWNERS = ("process", "docker", "kubernetes")
"""The values of BINDERY_SPAWNER, as in `deploy/jupyterhub`."""

KINDS = ("redis", "proxy", "hub", "culler", "resolver", "builder", "worker", "launcher", "gateway")
"""The kinds of components. Several of one kind are numbered from the second on: `worker`, `worker-2`."""

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds `services/` and `deploy/`."""

_ORIGIN = re.compile(r"https?://[^\s/@*?#]+/?", re.IGNORECASE)
_START_TOKEN = re.compile(r"([A-Za-z0-9._~-]{16,256})?")  # goes into an address as it is


class StartupError(Exception):
    """A command about the embedded stack can't be carried out; the message is one line of advice."""


class Settings(BaseSettings):
    """Settings of `bindery up`. All other `BINDERY_*` variables are passed on to the components that read them."""

    model_config = SettingsConfigDict(env_prefix="BINDERY_", extra="ignore", frozen=True)

    port: int = Field(8585, ge=1, le=65535, description="Port of the gateway; a second gateway takes the next one.")
    host: str = Field("127.0.0.1", description="Loopback address of the gateway.")
    start_token: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_urlsafe(24)),
        description="The token in the printed address, which requests must show: [how](operators.md#the-start-token). "
        "If it is set and empty, no token is required.",
    )
    allowed_origins: str = Field(
        "", description="The gateway's setting of this name; here each site must be named, and `*` is refused."
    )
    data_dir: Path = Field(CHECKOUT / ".bindery", description="The folder for images, logs and launches.")
    workers: PositiveInt = Field(1, description="Number of builder workers.")
    gateways: PositiveInt = Field(1, description="Number of gateways.")
    executor: str = Field("process", description="What runs the builds: the builder's setting of this name.")
    spawner: str = Field(
        "", description="What runs the servers: process, docker or kubernetes; empty: the same as the executor."
    )

    part_environment: dict[str, list[str]] = Field(
        {},
        description="JSON: further variables of yours that a component gets, by component: "
        '`{"hub": ["LDAP_PASSWORD"]}`. [What for](operators.md#the-environment-of-a-component).',
    )

    ready_timeout_seconds: PositiveFloat = Field(60.0, description="Time in which all components must become healthy.")
    stop_timeout_seconds: PositiveFloat = Field(
        10.0, description="Time in which a component must end; then it gets SIGKILL."
    )
    health_poll_seconds: PositiveFloat = Field(
        0.05, description="Time between two health checks of a component that starts."
    )
    health_timeout_seconds: PositiveFloat = Field(
        2.0, description="Time in which a component must answer a health check."
    )

    restart_delay_seconds: PositiveFloat = Field(
        0.2, description="Wait before the first restart; it doubles each time."
    )
    restart_delay_max_seconds: PositiveFloat = Field(10.0, description="The longest wait before a restart.")
    restart_window_seconds: PositiveFloat = Field(60.0, description="Time for which an exit counts towards the limit.")
    restart_limit: PositiveInt = Field(
        5, description="Number of exits of one component within the window that stops everything."
    )

    part_log_max_bytes: PositiveInt = Field(5 * 2**20, description="A component's log file is rotated at this size.")
    part_log_backups: PositiveInt = Field(2, description="Number of rotated log files kept for a component.")

    idle_timeout_seconds: PositiveInt = Field(600, description="A server that has been idle for this long is stopped.")
    cull_every_seconds: PositiveInt = Field(60, description="Time between two searches for idle servers.")
    max_age_seconds: int = Field(21600, ge=0, description="A server older than this is stopped; 0 for no limit.")

    @field_validator("host")
    @classmethod
    def _check_loopback(cls, host: str) -> str:
        try:
            is_loopback = host == "localhost" or IPv4Address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise ValueError(
                f"{host} is not an IPv4 loopback address. `make up` runs strangers' code as you, so it listens on "
                "this machine only: leave BINDERY_HOST at 127.0.0.1"
            )
        return host

    @field_validator("part_environment")
    @classmethod
    def _check_components(cls, part_environment: dict[str, list[str]]) -> dict[str, list[str]]:
        if unknown := sorted(set(part_environment) - set(KINDS)):
            raise ValueError(f"there is no component {unknown[0]!r}: use one of {', '.join(KINDS)}")
        return part_environment

    @field_validator("start_token")
    @classmethod
    def _check_start_token(cls, token: SecretStr) -> SecretStr:
        if not _START_TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "a start token has 16 to 256 letters, digits, dots, dashes, underscores or tildes: "
                "`openssl rand -hex 16` makes one. Unset it for a new one at each start"
            )
        return token

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, sites: str) -> str:
        for site in filter(None, (entry.strip() for entry in sites.split(","))):
            if site == "*":
                raise ValueError(
                    "`*` would let every web site that you visit run code as you: name the sites that may, as in "
                    "BINDERY_ALLOWED_ORIGINS=https://example.org"
                )
            if not _ORIGIN.fullmatch(site):
                raise ValueError(f"{site!r} is not an origin: write scheme and host, as in https://example.org")
        return sites

    @field_validator("data_dir")
    @classmethod
    def _make_absolute(cls, path: Path) -> Path:
        return path.expanduser().resolve()

    @model_validator(mode="after")
    def _check_ports(self) -> "Settings":
        if self.gateways > 1 and self.port + self.gateways - 1 > 65535:
            raise ValueError(f"BINDERY_GATEWAYS={self.gateways} with BINDERY_PORT={self.port} goes beyond port 65535")
        return self

    @model_validator(mode="after")
    def _check_spawner(self) -> "Settings":
        if self.servers_by not in SPAWNERS:
            raise ValueError(f"BINDERY_SPAWNER is {self.servers_by!r}: set it to one of {', '.join(SPAWNERS)}")
        if (self.executor == "process") != (self.servers_by == "process"):
            raise ValueError(
                f"BINDERY_SPAWNER={self.servers_by} can't start what BINDERY_EXECUTOR={self.executor} builds: "
                "folders are started as processes, images as containers"
            )
        return self

    @property
    def servers_by(self) -> str:
        """The name of the spawner that runs the servers: each of the builder's own executors has one."""
        return self.spawner or self.executor

    @property
    def ports(self) -> list[int]:
        """Ports of the gateways, in order."""
        return list(range(self.port, self.port + self.gateways))

    @property
    def url(self) -> str:
        """Address that the user opens, without a slash at the end."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Addresses of all gateways, in order."""
        return [f"http://{self.host}:{port}" for port in self.ports]

    @property
    def servers_host(self) -> str:
        """Other name of this machine, under which users' servers are opened.

        Cookies are not bound to a port: under the gateway's own name, each server would get its session.
        """
        return "127.0.0.1" if self.host == "localhost" else "localhost"

    @property
    def run_dir(self) -> Path:
        """Folder of the records of the running processes."""
        return self.data_dir / "run"

    @property
    def processes_dir(self) -> Path:
        """Folder of the records of running builds and user servers (format: `processes.py`)."""
        return self.run_dir / "processes"

    @property
    def run_dirs(self) -> list[Path]:
        """Folders that hold those of builds and user servers."""
        return [self.data_dir / name for name in ("servers", "builds")]

    @property
    def logs_dir(self) -> Path:
        """Folder of the log files, one per component."""
        return self.data_dir / "logs"


def read_settings() -> Settings:
    """Read the environment. Raise `StartupError`, with the variable's name, for a value that is not valid."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "".join(f"BINDERY_{str(field).upper()}: " for field in first["loc"][:1])
        raise StartupError(variable + first["msg"].removeprefix("Value error, ")) from None
