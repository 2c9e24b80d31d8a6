"""What a user may set about the embedded stack, from the environment (`BINDERY_<NAME>`)."""

import re
import secrets
from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SPAWNERS = ("process", "docker", "kubernetes")
"""What BINDERY_SPAWNER may be, as in `deploy/jupyterhub`."""

PARTS = ("redis", "proxy", "hub", "culler", "resolver", "builder", "worker", "launcher", "gateway")
"""Of each kind of part there may be several, numbered: `worker`, `worker-2`."""

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds `services/` and `deploy/`."""


_ORIGIN = re.compile(r"https?://[^\s/@*?#]+/?", re.IGNORECASE)
_START_TOKEN = re.compile(r"([A-Za-z0-9._~-]{16,256})?")  # goes into an address as it is


class StartupError(Exception):
    """Bindery can't do what was asked; the message is one line that says what the user can do about it."""


class Settings(BaseSettings):
    """Settings of `bindery up`. Every other `BINDERY_*` variable is handed to the services as it is."""

    model_config = SettingsConfigDict(env_prefix="BINDERY_", extra="ignore", frozen=True)

    port: int = Field(8585, ge=1, le=65535, description="Port of the gateway; a second gateway takes the next one.")
    host: str = Field("127.0.0.1", description="Loopback address of the gateway.")
    start_token: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_urlsafe(24)),
        description="What the printed address carries, and requests must show: [how](operators.md#the-start-token). "
        "Set to nothing, no token is asked for.",
    )
    allowed_origins: str = Field(
        "", description="The gateway's setting of that name; here each site must be named, and `*` is refused."
    )
    data_dir: Path = Field(CHECKOUT / ".bindery", description="Where images, logs and launches are kept.")
    workers: PositiveInt = Field(1, description="How many builder workers run.")
    gateways: PositiveInt = Field(1, description="How many gateways run.")
    executor: str = Field("process", description="Who runs the builds; the builder's setting, and here what it is for.")
    spawner: str = Field("", description="Who runs the servers: process, docker or kubernetes; empty: as the executor.")

    part_environment: dict[str, list[str]] = Field(
        {},
        description="JSON: further variables of yours that a part gets, by part: "
        '`{"hub": ["LDAP_PASSWORD"]}`. [What for](operators.md#what-a-part-is-told).',
    )

    ready_timeout_seconds: PositiveFloat = Field(60.0, description="How long all parts may take to be healthy.")
    stop_timeout_seconds: PositiveFloat = Field(10.0, description="How long a part may take to end before SIGKILL.")
    health_poll_seconds: PositiveFloat = Field(0.05, description="How often a starting part is asked.")
    health_timeout_seconds: PositiveFloat = Field(2.0, description="How long a part may take to answer.")

    restart_delay_seconds: PositiveFloat = Field(0.2, description="Wait before the first restart; doubles each time.")
    restart_delay_max_seconds: PositiveFloat = Field(10.0, description="The longest wait before a restart.")
    restart_window_seconds: PositiveFloat = Field(60.0, description="Deaths older than this are forgotten.")
    restart_limit: PositiveInt = Field(5, description="So many deaths of one part in the window end everything.")

    part_log_max_bytes: PositiveInt = Field(5 * 2**20, description="A part's log file is rotated at this size.")
    part_log_backups: PositiveInt = Field(2, description="How many rotated log files of a part are kept.")

    idle_timeout_seconds: PositiveInt = Field(600, description="A server idle for so long is culled.")
    cull_every_seconds: PositiveInt = Field(60, description="How often idle servers are looked for.")
    max_age_seconds: int = Field(21600, ge=0, description="A server older than this is culled; 0 for no limit.")

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
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
    def _names_parts(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        if unknown := sorted(set(given) - set(PARTS)):
            raise ValueError(f"there is no part {unknown[0]!r}: it is one of {', '.join(PARTS)}")
        return given

    @field_validator("start_token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr) -> SecretStr:
        if not _START_TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "a start token has 16 to 256 letters, digits, dots, dashes, underscores or tildes, as "
                "`openssl rand -hex 16` makes one; leave it out for a new one at each start"
            )
        return token

    @field_validator("allowed_origins")
    @classmethod
    def _names_each_site(cls, sites: str) -> str:
        for site in filter(None, (part.strip() for part in sites.split(","))):
            if site == "*":
                raise ValueError(
                    "`*` would let every web site that you visit run code as you: name those that may, as in "
                    "BINDERY_ALLOWED_ORIGINS=https://example.org"
                )
            if not _ORIGIN.fullmatch(site):
                raise ValueError(f"{site!r} is no origin: write scheme and host, as in https://example.org")
        return sites

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().resolve()

    @model_validator(mode="after")
    def _ports_exist(self) -> "Settings":
        if self.gateways > 1 and self.port + self.gateways - 1 > 65535:
            raise ValueError(f"BINDERY_GATEWAYS={self.gateways} from BINDERY_PORT={self.port} on passes port 65535")
        return self

    @model_validator(mode="after")
    def _servers_run_what_is_built(self) -> "Settings":
        if self.servers_by not in SPAWNERS:
            raise ValueError(f"BINDERY_SPAWNER is {self.servers_by!r}: set it to one of {', '.join(SPAWNERS)}")
        if (self.executor == "process") != (self.servers_by == "process"):
            raise ValueError(
                f"BINDERY_SPAWNER={self.servers_by} can't start what BINDERY_EXECUTOR={self.executor} builds: "
                "folders are started as processes, images in containers"
            )
        return self

    @property
    def servers_by(self) -> str:
        """Who runs the servers: of the builder's own executors each has its spawner."""
        return self.spawner or self.executor

    @property
    def ports(self) -> list[int]:
        """The ports of the gateways, the first one first."""
        return list(range(self.port, self.port + self.gateways))

    @property
    def url(self) -> str:
        """Where the user opens Bindery; without a slash at the end."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """The same for each gateway."""
        return [f"http://{self.host}:{port}" for port in self.ports]

    @property
    def servers_host(self) -> str:
        """Another name of this machine, under which users' servers are opened.

        Cookies know no ports: under the gateway's own name its session would be sent to each server.
        """
        return "127.0.0.1" if self.host == "localhost" else "localhost"

    @property
    def run_dir(self) -> Path:
        """What is running right now."""
        return self.data_dir / "run"

    @property
    def processes_dir(self) -> Path:
        """The records of running builds and user servers (format: `processes.py`)."""
        return self.run_dir / "processes"

    @property
    def home_dirs(self) -> list[Path]:
        """Below these lie the HOMEs of builds and user servers, and of nobody else."""
        return [self.data_dir / name for name in ("servers", "images", "builds")]

    @property
    def logs_dir(self) -> Path:
        """One log file per part."""
        return self.data_dir / "logs"


def read_settings() -> Settings:
    """Read the environment. Raises `StartupError`, naming the variable, when something in it makes no sense."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "".join(f"BINDERY_{str(part).upper()}: " for part in first["loc"][:1])
        raise StartupError(name + first["msg"].removeprefix("Value error, ")) from None
