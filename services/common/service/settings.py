"""Settings of every service: from the environment (`BINDERY_<NAME>`) and an optional YAML file."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from services.common.service.setting_names import SettingsFileError, refuse_unknown_names

LAST_STEPS_SECONDS = 2.0
"""Time in which cancelled work ends, beyond the time in which a write of its gets a reply."""

CLIENT_KEEPALIVE_SECONDS = 60
"""How long a service keeps a connection to another one that has no request."""


class _SettingsFile(YamlConfigSettingsSource):
    """The YAML file. Reading one that is missing, or that has anything but names and values, is `SettingsFileError`."""

    def _read_files(self, files: Any, deep_merge: bool = False) -> dict[str, Any]:
        # A folder is what Docker makes where a file that it is to mount is missing. `Path.is_file` may raise.
        if not os.path.isfile(files):  # noqa: PTH113
            raise SettingsFileError(
                f"BINDERY_CONFIG_FILE names {files}, which is no file that this process can see: name one, or none."
            )
        return super()._read_files(files, deep_merge)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        problem = "it must have lines such as `seats_total: 20`"
        try:
            content: Any = super()._read_file(file_path)
            if isinstance(content, dict) and all(isinstance(name, str) for name in content):
                return content
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "it is not in UTF-8"
        raise SettingsFileError(f"The file that BINDERY_CONFIG_FILE names makes no sense: {problem}.")


def settings_of_file() -> dict[str, Any]:
    """Return what the YAML file sets, for whichever service; nothing if there is none. Raise `SettingsFileError`."""
    path = os.environ.get("BINDERY_CONFIG_FILE")
    return dict(_SettingsFile(ServiceSettings, yaml_file=Path(path)).yaml_data) if path else {}


class ServiceSettings(BaseSettings):
    """Settings of any service. The environment wins over the YAML file named by `BINDERY_CONFIG_FILE`.

    In the file, names are written without the prefix and in lower case. Names of other services are ignored, as they
    share the file; construction raises `UnknownSettingError` for one that no service knows, and another
    `SettingsFileError` for a file that can't be read as settings.
    """

    model_config = SettingsConfigDict(
        env_prefix="BINDERY_",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # a setting that makes no sense may be a secret
    )

    listen_host: str = Field("127.0.0.1", description="Address that this process listens on.")
    listen_port: int = Field(0, description="Port that this process listens on; 0 chooses a free one.")
    listen_socket: Path | None = Field(
        None,
        description="Unix socket that this process listens at instead, for its own user alone: "
        "[how](operators.md#unix-sockets).",
    )
    start_problem_shown_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a process that can't start as it is configured stays all the same, with the reason at "
        "`/health`, before it ends with exit status 1: for containers, whose health checks show it. 0: it ends at "
        "once.",
    )
    start_hold_seconds: float = Field(
        10.0,
        ge=0,
        description="How long a request that comes before its service has started waits for that, before it gets 503.",
    )
    start_held_max: int = Field(1000, ge=0, description="How many requests wait so at once; more get 503 at once.")
    http_head_max_bytes: int = Field(65536, gt=0, description="Largest head of a request: its line and headers.")
    http_head_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time in which a request's head must arrive, and in which a new connection must begin one.",
    )
    http_body_timeout_seconds: float = Field(
        30.0, gt=0, description="A request is ended if its body brings less than 1 KiB in this time."
    )
    send_timeout_seconds: float = Field(
        30.0, gt=0, description="A connection is ended if its client reads less than 1 KiB of an answer in this time."
    )
    http_connections_max: int = Field(
        10_000,
        ge=0,
        description="Connections that one process serves at once, followers of streams among them; more are refused "
        "(`overloaded`). 0: no limit.",
    )
    http_pipelined_max: int = Field(16, ge=0, description="Requests that a connection may send ahead of their answers.")
    service_request_max_bytes: int = Field(
        2**20, gt=0, description="Largest body of a request between services; a larger one is refused unread."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: redis://, rediss://, unix:///path?db=0, or behind Sentinel "
        "redis+sentinel://host:port,host:port/master/database (rediss+sentinel:// with TLS): [how](redis.md#sentinel). "
        "No Redis Cluster.",
    )
    redis_sentinel_username: str = Field("", description="User of the Sentinels; empty: their default user.")
    redis_sentinel_password: SecretStr = Field(
        SecretStr(""), description="Password of the Sentinels; empty: they ask for none. That of Redis is in the URL."
    )
    redis_password_required: bool = Field(
        True, description="Whether health fails for a Redis on another host that lets everybody in without a password."
    )
    redis_prefix: str = Field("bindery", description="First part of every key, before the installation id.")
    redis_timeout_seconds: float = Field(5.0, gt=0, description="Connect and read timeout of every Redis call.")
    redis_max_connections: int = Field(200, description="Connections that one process may hold open to Redis.")
    redis_patience_seconds: float = Field(
        60.0, ge=0, description="How long a write waits for a Redis that does not answer."
    )
    service_token: SecretStr = Field(
        SecretStr(""), description="Shared secret by which services recognize each other. No service starts without it."
    )
    credentials_key: SecretStr = Field(
        SecretStr(""),
        description="Secret by which git credentials that come with launches are encrypted in Redis, the same for "
        "gateways and workers; empty: the service token. Of several, separated by commas, the first encrypts and each "
        "decrypts.",
    )
    credentials_ttl_seconds: float = Field(
        86400.0,
        gt=0,
        description="Longest time that such a credential is kept: longer than a build may wait and last. Its build or "
        "launch removes it before.",
    )
    metrics_token: SecretStr = Field(
        SecretStr(""), description="Bearer token that `/metrics` of each service asks for; empty: none."
    )
    http_keepalive_seconds: int = Field(
        75,
        ge=CLIENT_KEEPALIVE_SECONDS + 5,
        description="How long a connection without a request stays open. A client that keeps connections for longer "
        f"may send a request just when one is closed: services keep theirs for {CLIENT_KEEPALIVE_SECONDS} s, so this "
        f"is at least {CLIENT_KEEPALIVE_SECONDS + 5}; a proxy may need more.",
    )
    metrics_read_seconds: float = Field(
        2.0,
        gt=0,
        description="How long `/metrics` waits for Redis, from which a builder reads its queue and a launcher its "
        "seats. After that it answers without these numbers.",
    )
    installation_id: str = Field(
        "default", description="Distinguishes this installation from others on the same hub or Redis."
    )
    installation_secret: SecretStr = Field(
        SecretStr(""),
        description="Key of every signature that Bindery makes; gateway and launcher require 32 characters or more.",
    )
    data_dir: Path = Field(Path(".bindery"), description="Folder of this machine's images, logs and servers.")
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_format: str = Field("json", description="json, or text for people.")
    git_allowed_protocols: str = Field("http,https", description="Protocols of git URLs, comma-separated.")

    lease_seconds: float = Field(
        6.0,
        gt=0,
        description="How long a silent process counts as alive: at least 2.5 times `BINDERY_LEASE_RENEW_SECONDS`.",
    )
    lease_renew_seconds: float = Field(2.0, gt=0, description="Time between two signs of life of a process.")
    sweep_interval_seconds: float = Field(1.0, gt=0, description="How often the sweeper looks for dead processes.")
    adoptions_per_second: float = Field(
        50.0, gt=0, description="How many records of dead processes one process takes over in a second."
    )
    loop_stalled_seconds: float = Field(
        300.0, gt=0, description="A step of a background loop that lasts longer than this makes `/livez` fail."
    )
    heartbeat_seconds: float = Field(
        2.0,
        gt=0,
        description="Time between two messages that a process sends itself through Redis. If two in a row do not "
        "arrive, it subscribes again by another connection.",
    )
    adoptions_max: int = Field(
        5, ge=3, description="Adoptions in a row that come to nothing, after which a build, launch or server is ended."
    )
    adoption_trial_seconds: float = Field(
        15.0,
        ge=0,
        description="An adoption has come to nothing, too, if its process dies within this time. After two in a "
        "row a launch or a server is taken over on trial: [how](operators.md#a-record-that-is-damaged).",
    )
    cancel_within_seconds: float = Field(
        10.0,
        gt=0,
        description="How long work that is cancelled again and again may go on; then its process goes on without it.",
    )
    clock_interval_seconds: float = Field(10.0, gt=0, description="How often a process asks Redis for the time.")
    clock_offset_warn_seconds: float = Field(
        1.0,
        gt=0,
        description="A clock of this host that differs by more from that of Redis is logged: "
        "[why](operators.md#clocks).",
    )
    lost_check_seconds: float = Field(
        4.0,
        gt=0,
        description="How often the records of followed streams are looked for: at least twice "
        "`BINDERY_LEASE_RENEW_SECONDS`, in which a living owner writes its own again. If one is missing three times in "
        "a row, Redis has lost it, and its followers are notified.",
    )
    reread_seconds: float = Field(
        60.0,
        gt=0,
        description="How often everything is looked up that a lost message would have told: new entries of followed "
        "streams, orphans, requests to cancel, places in queues. After each new subscription that happens at once.",
    )
    queue_tick_seconds: float = Field(
        0.2, ge=0, description="Shortest time between two readings of the positions of waiting builds."
    )
    record_ttl_seconds: float = Field(
        7 * 86400.0, gt=0, description="How long finished builds, launches and servers are remembered."
    )
    stream_max_bytes: int = Field(
        8 * 2**20, description="Largest live log in Redis; of a larger one, the beginning and the end are kept."
    )
    log_total_max_bytes: int = Field(256 * 2**20, description="Largest size of all finished logs in Redis together.")
    log_dir: Path | None = Field(
        None, description="Folder for large logs, which workers and gateways share; none: all logs are in Redis."
    )
    log_small_max_bytes: int = Field(
        256 * 1024, description="Logs up to this size are kept in Redis even with a log_dir."
    )
    fact_ttl_seconds: float = Field(
        86400.0, gt=0, description="How long the launch cache keeps an answer that cannot change."
    )
    fact_tombstone_seconds: float = Field(
        60.0, gt=0, description="How long the launch cache refuses an answer after it was withdrawn."
    )
    log_ttl_seconds: float = Field(7 * 86400.0, gt=0, description="How long a finished log can be read.")

    @field_validator("log_level")
    @classmethod
    def _check_log_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warn", "warning", "error", "critical"}:
            raise ValueError("set it to debug, info, warning or error")
        return value

    @field_validator("listen_socket", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None

    @field_validator("*", mode="before")
    @classmethod
    def _strip_secret(cls, value: object, info: ValidationInfo) -> object:
        """Take white space from both sides of a secret: a file, or `kubectl create secret`, may leave a line's end."""
        is_secret = cls.model_fields[str(info.field_name)].annotation is SecretStr
        return value.strip() if is_secret and isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_seconds < 2.5 * self.lease_renew_seconds:
            raise ValueError(
                f"BINDERY_LEASE_SECONDS ({self.lease_seconds:g}) must be at least 2.5 times "
                f"BINDERY_LEASE_RENEW_SECONDS ({self.lease_renew_seconds:g}), or no dead process could be told from a "
                "stall: raise the first, or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _check_lost_check(self) -> Self:
        if self.lost_check_seconds < 2 * self.lease_renew_seconds:
            raise ValueError(
                f"BINDERY_LOST_CHECK_SECONDS ({self.lost_check_seconds:g}) must be at least twice "
                f"BINDERY_LEASE_RENEW_SECONDS ({self.lease_renew_seconds:g}): raise the first, or lower the second"
            )
        return self

    def require_longer(self, longer: str, *, than: str) -> None:
        """Raise `ValueError`, which says what to do, unless the setting `longer` exceeds another one."""
        if getattr(self, longer) <= getattr(self, than):
            raise ValueError(
                f"BINDERY_{longer.upper()} ({getattr(self, longer):g}) must be more than "
                f"BINDERY_{than.upper()} ({getattr(self, than):g}): raise the first, or lower the second"
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: arguments, the environment, the YAML file."""
        sources: list[Any] = [init_settings, env_settings]
        if path := os.environ.get("BINDERY_CONFIG_FILE"):
            file = _SettingsFile(settings_cls, yaml_file=Path(path))
            refuse_unknown_names(file.yaml_data, source=path)
            sources.append(file)
        return tuple(sources)

    @property
    def key_prefix(self) -> str:
        """Prefix of every Redis key of this installation."""
        return f"{self.redis_prefix}:{self.installation_id}"

    @property
    def settle_seconds(self) -> float:
        """How long a cancelled write waits for its reply."""
        return self.redis_timeout_seconds / 2

    @property
    def hand_over_seconds(self) -> float:
        """How long a process may take to hand over what it owns.

        Its work ends first, with the replies to its last writes, and so does a renewal that is under way; then comes
        one call of Redis.
        """
        return self.settle_seconds + LAST_STEPS_SECONDS + 2 * self.redis_timeout_seconds
