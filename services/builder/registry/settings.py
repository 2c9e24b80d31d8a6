"""The settings of the image registry: where it is, who it takes us for, and how long it may take to answer."""

from pydantic import Field

from services.common.net.settings import OutboundSettings


class RegistrySettings(OutboundSettings):
    """Read by executors that push their images to a registry. `image_prefix` names the registry that they push to."""

    image_prefix: str = Field(
        "bindery/", description="What every image name begins with; registry and project included."
    )

    registry_url: str = Field(
        "",
        description="Where the registry's API is asked, as `https://host:port`; empty: the host in `image_prefix`, "
        "Docker Hub where it names none.",
    )
    registry_insecure: bool = Field(
        False, description="Whether a registry whose URL names no scheme is asked over http, logins included."
    )
    registry_ca_file: str = Field(
        "", description="PEM file of certificates to trust for the registry beside the system's own."
    )
    registry_verify: bool = Field(True, description="Whether the registry's certificate is checked at all.")
    registry_credentials: str = Field(
        "docker-config",
        description="Where logins come from: docker-config, google-metadata, or an entry point of the group "
        "bindery.registries.",
    )
    docker_config: str = Field(
        "",
        description="Docker's `config.json` with the logins, or its folder; empty: `$DOCKER_CONFIG`, then `~/.docker`. "
        "Read again when it changes.",
    )
    registry_not_found_401: bool | None = Field(
        None,
        description="Whether a 401 in spite of a valid token means that there is no such image; unset: on Docker Hub "
        "only, which answers so for repositories that do not exist yet.",
    )

    registry_wait_seconds: float = Field(
        20.0, description="How long one question to the registry may take, token and repetitions included.", gt=0
    )
    registry_connect_seconds: float = Field(3.0, description="How long connecting to the registry may take.", gt=0)
    registry_read_seconds: float = Field(10.0, description="How long the registry may say nothing.", gt=0)
    registry_retries: int = Field(
        2, description="How often a broken connection to the registry is tried again within one question.", ge=0
    )
    registry_answer_max_bytes: int = Field(
        4 * 2**20, description="How large a manifest, or another answer of the registry, may be.", gt=0
    )
    registry_token_early_seconds: float = Field(
        15.0, description="How long before its expiry a registry token is replaced; half its life at most.", ge=0
    )
    registry_health_seconds: float = Field(
        30.0, description="How long health believes what the registry last answered.", ge=0
    )
