"""The launcher's settings: which hub, how many seats, and how long a start may take."""

from pydantic import Field, SecretStr

from services.common.settings import ServiceSettings


class LauncherSettings(ServiceSettings):
    """Settings of the launcher."""

    hub_id: str = Field("hub", description="Names the hub in server ids.")
    hub_api_url: str = Field(
        "http://127.0.0.1:8081/hub/api/", description="The hub's REST API, as the launcher reaches it."
    )
    hub_url: str = Field("http://127.0.0.1:8000/", description="The hub's proxy, as browsers reach it.")
    hub_api_token: SecretStr = Field(SecretStr(""), description="Token of the hub service that starts servers.")
    hub_checks_proxy: bool = Field(
        False, description="Whether health includes the hub's proxy; the launcher must reach BINDERY_HUB_URL for that."
    )
    hub_timeout_seconds: float = Field(30.0, description="Read timeout of one call to the hub.")
    hub_connections: int = Field(200, description="Connections that are held open to the hub.")

    seats_total: int = Field(-1, description="Servers at once; -1 for no limit, 0 to start none.")
    seat_wait_seconds: float = Field(600.0, description="How long a launch waits for a seat.")
    server_start_timeout_seconds: float = Field(
        120.0, description="From the first call to the hub until the server answers."
    )
    hub_patience_seconds: float = Field(60.0, description="How long a hub that is away is asked again.")
    hub_busy_pause_max_seconds: float = Field(
        10.0, description="How long one that the hub is too busy for (429) pauses at most before it asks again."
    )
    retry_pause_seconds: float = Field(0.5, description="First pause before the hub is asked again; doubles up to 5 s.")
    cleanup_timeout_seconds: float = Field(20.0, description="How long removing a failed start from the hub may take.")
    max_age_seconds: float = Field(
        6 * 3600.0, description="When the culler ends a server at the latest; told to users."
    )

    reap_interval_seconds: float = Field(15.0, description="How often the hub is listed and compared with the records.")
    reap_disarmed_seconds: float = Field(900.0, description="How long nothing is deleted after Redis was found empty.")
