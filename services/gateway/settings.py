"""The gateway's settings: addresses of the other services, access, and time limits."""

import re
from pathlib import Path

from pydantic import Field, PositiveFloat, SecretStr, field_validator, model_validator

from services.common.net.http import unix_socket
from services.common.service.settings import ServiceSettings

_ORIGIN = re.compile(r"https?://[^\s/@*?#]+/?", re.IGNORECASE)
_START_TOKEN = re.compile(r"([A-Za-z0-9._~-]{16,256})?")


class GatewaySettings(ServiceSettings):
    """Settings of the gateway."""

    public_url: str = Field("", description="Address that users reach the gateway at.")
    hub_url: str = Field(
        "http://127.0.0.1:8000/", description="The hub's proxy as browsers reach it; redirects go nowhere else."
    )
    resolver_url: str = Field("http://127.0.0.1:8611", description="Address of the resolver: http:// or unix:///path.")
    builder_url: str = Field("http://127.0.0.1:8612", description="Address of the builder's API, in the same form.")
    launcher_url: str = Field("http://127.0.0.1:8613", description="Address of the launcher, in the same form.")
    stage_timeout_seconds: float = Field(
        60.0, gt=0, description="Read timeout of one call to the resolver, builder or launcher."
    )
    stage_patience_seconds: float = Field(
        60.0, ge=0, description="How long calls to a service that does not answer are repeated."
    )

    local_mode: bool = Field(False, description="On one's own machine: unknown Host headers are refused.")
    dev_mode: bool = Field(
        False, description="For work on the pages: templates and static files are read again at each request."
    )
    executor: str = Field(
        "process",
        description="What runs the builds: the builder's setting of this name. The gateway needs it for the warning "
        "on a link's page.",
    )
    allowed_origins: str = Field(
        "",
        description="Web sites, comma-separated, that may start launches: https://example.org; * for all, which "
        "`make up` refuses.",
    )
    start_token: SecretStr = Field(
        SecretStr(""),
        description="Token that requests must show: [how](operators.md#the-start-token). Empty: no token is required.",
    )
    start_session_seconds: PositiveFloat = Field(
        30 * 86400.0, description="Life of the session of a browser that has shown the start token."
    )
    trusted_proxies: str = Field("", description="CIDRs, comma-separated, whose X-Forwarded-For is believed.")

    detect_timeout_seconds: float = Field(
        5.0,
        gt=0,
        description="How long the form and `POST /api/v1/detect` wait for a forge to say where a branch's name ends in "
        "the address of a page.",
    )

    request_max_bytes: int = Field(2**20, description="Largest body of a request; a larger one is refused unread.")

    launch_timeout_seconds: float = Field(6 * 3600.0, gt=0, description="Hard maximum of one launch, queues included.")
    abandoned_seconds: float = Field(120.0, gt=0, description="A launch without a reader for this long is abandoned.")
    lost_builds_max: int = Field(
        1, description="Number of times that one launch begins a build again after it vanished."
    )
    idempotency_ttl_seconds: float = Field(86400.0, gt=0, description="How long an Idempotency-Key names its launch.")

    tick_seconds: float = Field(0.02, ge=0, description="Shortest time between two chunks of one stream.")
    tick_max_seconds: float = Field(
        0.2, ge=0, description="Shortest time between two chunks of one stream when there are thousands of followers."
    )
    keepalive_seconds: float = Field(25.0, gt=0, description="Time between two signs of life of a silent stream.")
    linger_seconds: float = Field(
        60.0, ge=0, description="How long a façade stream stays open after its end, for the client to close."
    )
    drain_seconds: int = Field(600, ge=0, description="On SIGTERM, how long façade streams may go on.")

    pre_launch_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="How long all pre-launch hooks of one launch may take (entry points: bindery.pre_launch).",
    )
    template_folders: str = Field(
        "",
        description="Folders, comma-separated, whose page templates replace ours: "
        "[how](operators.md#pages-of-your-own).",
    )

    build_token_seconds: float = Field(300.0, gt=0, description="Life of the build token in the page of a link.")

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        for site in filter(None, (part.strip() for part in value.split(","))):
            if site != "*" and not _ORIGIN.fullmatch(site):
                raise ValueError(f"{site!r} is not an origin: write scheme and host, as in https://example.org")
        return value

    @field_validator("start_token")
    @classmethod
    def _check_start_token(cls, value: SecretStr) -> SecretStr:
        if not _START_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("give it 16 to 256 letters, digits, dots, dashes, underscores or tildes, or nothing")
        return value

    @model_validator(mode="after")
    def _check_origins_in_local_mode(self) -> "GatewaySettings":
        if self.local_mode and "*" in [part.strip() for part in self.allowed_origins.split(",")]:
            raise ValueError(
                "BINDERY_ALLOWED_ORIGINS=* would let every web site run code on one's own machine: name the sites"
            )
        return self

    @field_validator("resolver_url", "builder_url", "launcher_url")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) and not unix_socket(value):
            raise ValueError(f"{value!r} is not an address: write http://host:port, or unix:///path/of/its.socket")
        return value

    @field_validator("template_folders")
    @classmethod
    def _check_folders(cls, value: str) -> str:
        if missing := [str(folder) for folder in _folders(value) if not folder.is_dir()]:
            raise ValueError(f"no such folder: {', '.join(missing)}")
        return value

    @property
    def template_paths(self) -> list[Path]:
        """The folders of `template_folders`, in order."""
        return _folders(self.template_folders)


def _folders(value: str) -> list[Path]:
    return [Path(part.strip()) for part in value.split(",") if part.strip()]
