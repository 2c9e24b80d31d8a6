"""Settings of the launcher: the hub, the seats, and the time that a start may take."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.common.service.settings import ServiceSettings
from services.launcher.resources import ResourceClass, ResourceClasses


class LauncherSettings(ServiceSettings):
    """Settings of the launcher."""

    hub_id: str = Field("hub", description="Name of the hub in server ids.")
    hub_api_url: str = Field(
        "http://127.0.0.1:8081/hub/api/", description="The hub's REST API, as the launcher reaches it."
    )
    hub_url: str = Field("http://127.0.0.1:8000/", description="The hub's proxy, as browsers reach it.")
    hub_api_token: SecretStr = Field(SecretStr(""), description="Token of the hub service that starts servers.")
    hub_checks_proxy: bool = Field(
        False,
        description="Whether a server is ready only once it answers through the hub's proxy, which health then "
        "includes; the launcher must reach the proxy for that.",
    )
    hub_proxy_url: str = Field(
        "", description="The hub's proxy, as the launcher reaches it, if it does not reach BINDERY_HUB_URL."
    )
    hub_timeout_seconds: float = Field(30.0, gt=0, description="Read timeout of one call to the hub.")
    hub_silence_seconds: float = Field(
        25.0,
        gt=0,
        description="How long a progress stream of the hub may be silent before the hub counts as away; a hub "
        "sends something every 8 s.",
    )
    hub_connections: int = Field(200, description="Number of connections that are held open to the hub.")

    hub_concurrent_spawns: int = Field(
        80,
        ge=0,
        description="Number of starts of all launchers together that the hub has under way at once: below its "
        "concurrent_spawn_limit. 0 for no limit.",
    )

    seats_total: int = Field(
        -1, description="Seats that running servers may take together; -1: no limit, 0: no server is started."
    )
    seats_per_repo: int = Field(
        0,
        ge=-1,
        description="Number of servers at once of a repository that has no quota of its own; 0 (or -1): no limit, "
        "as BinderHub's per_repo_quota.",
    )
    seats_waiting_max: int = Field(
        1000,
        description="Number of launches that may wait for a seat; the next one fails at once. -1: no limit, 0: none "
        "may wait.",
    )
    seat_wait_seconds: float = Field(600.0, ge=0, description="How long a launch waits for a seat at most.")
    seat_tick_seconds: float = Field(
        0.05, ge=0, description="Shortest time between two readings of the queue for seats."
    )
    recount_seconds: float = Field(
        5.0,
        gt=0,
        description="How often a launcher tells Redis again which servers it is starting, in case Redis has lost that "
        "they hold a seat. Another launcher that counts the running servers waits as long.",
    )
    seat_told_seconds: float = Field(
        1.0,
        ge=0,
        description="Shortest time between two messages to a waiting launch about its position; for launches far "
        "behind it is longer.",
    )
    resource_classes: dict[str, ResourceClass] = Field(
        {},
        description="Named classes of servers, as JSON or in the YAML file: each with any of memory_guarantee, "
        "memory_limit (bytes, 512M, 2G), cpu_guarantee, cpu_limit (cores), gpus, and cost in seats (1).",
    )
    resource_class: str = Field(
        "",
        description="Class of repositories without one in the resolver's configuration; empty: the spawner's defaults.",
    )

    server_start_timeout_seconds: float = Field(
        120.0,
        gt=0,
        description="Time from the first call to the hub until the server must answer; a start that progresses "
        "gets more.",
    )
    server_start_untold_seconds: float = Field(
        600.0,
        gt=0,
        description="How long a start may take if its spawner does not report steps that Bindery understands; "
        "BinderHub's launch_timeout.",
    )
    image_pull_timeout_seconds: float = Field(
        600.0, gt=0, description="How long a pull of the image may take, or a node that is being added."
    )
    server_start_max_seconds: float = Field(
        1800.0,
        gt=0,
        description="Hard maximum of one start, whatever progress it makes; the queue for seats not included.",
    )
    hub_patience_seconds: float = Field(
        60.0, ge=0, description="How long calls to a hub that does not answer are repeated, in total for one start."
    )
    hub_retries_max: int = Field(
        30, description="Number of calls of one start that may fail because the hub does not answer."
    )
    hub_busy_pause_max_seconds: float = Field(
        10.0, gt=0, description="Longest pause of a start before it asks a busy hub (429) again."
    )
    retry_pause_seconds: float = Field(
        0.5, gt=0, description="First pause before the hub is asked again; doubles up to 5 s."
    )
    server_route_seconds: float = Field(
        30.0,
        gt=0,
        description="How long the hub's proxy may take to lead to a server that is ready, with "
        "BINDERY_HUB_CHECKS_PROXY.",
    )
    cleanup_timeout_seconds: float = Field(
        20.0, gt=0, description="How long removing a failed start from the hub may take."
    )

    idle_timeout_seconds: float = Field(
        600.0, ge=0, description="Idle time after which the culler ends a server, as users are told. 0: no limit."
    )
    max_age_seconds: float = Field(
        6 * 3600.0, ge=0, description="Age at which the culler ends a server, as users are told. 0: no limit."
    )

    reap_interval_seconds: float = Field(
        15.0, gt=0, description="How often the hub is listed and compared with the records."
    )
    reap_round_max_seconds: float = Field(
        120.0, gt=0, description="How long one such comparison may take; what is left then is for the next one."
    )
    reap_disarmed_seconds: float = Field(
        3600.0,
        description="How long nothing is deleted after Redis was found empty: at least as long as a launch may wait "
        "for its seat and start.",
    )

    @field_validator("hub_api_token")
    @classmethod
    def _check_hub_api_token(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().split() not in ([], [value.get_secret_value()]):
            raise ValueError("it has spaces or line breaks, which no token of a hub has")
        return value

    @model_validator(mode="after")
    def _has_default_class(self) -> Self:
        if self.resource_class and self.resource_class not in self.resource_classes:
            raise ValueError(f"resource_class is {self.resource_class!r}, which resource_classes does not have")
        return self

    @model_validator(mode="after")
    def _check_stalls(self) -> Self:
        self.require_longer("loop_stalled_seconds", than="reap_round_max_seconds")
        return self

    @property
    def classes(self) -> ResourceClasses:
        """Resource classes, and which one is the default."""
        return ResourceClasses(classes=self.resource_classes, default=self.resource_class)
