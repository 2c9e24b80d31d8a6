"""The settings of the image registry: its address, the login for it, and its deadlines."""

from pydantic import Field, SecretStr

from services.common.net.settings import OutboundSettings


class RegistrySettings(OutboundSettings):
    """The settings of the registry that executors push images to; `image_prefix` names it."""

    image_prefix: str = Field(
        "bindery/", description="Beginning of every image's name, including registry and project."
    )

    registry_url: str = Field(
        "",
        description="Address of the registry's API, as `https://host:port`; empty: the host in `image_prefix`, or "
        "Docker Hub if it names no host.",
    )
    registry_insecure: bool = Field(
        False, description="Whether a registry whose URL names no scheme is called over http, logins included."
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
    docker_auth_config: SecretStr = Field(
        SecretStr(""), description="The content of such a `config.json` itself, in place of a file."
    )
    registry_not_found_401: bool | None = Field(
        None,
        description="Whether a 401 despite a valid token means that there is no such image; unset: on Docker Hub "
        "only, which answers so for repositories that do not exist yet.",
    )

    registry_wait_seconds: float = Field(
        20.0, description="How long one lookup in the registry may take, token and retries included.", gt=0
    )
    registry_connect_seconds: float = Field(3.0, description="How long connecting to the registry may take.", gt=0)
    registry_read_seconds: float = Field(
        10.0, description="How long the registry may be silent while it answers.", gt=0
    )
    registry_retries: int = Field(
        2, description="How often a broken connection to the registry is retried within one lookup.", ge=0
    )
    registry_answer_max_bytes: int = Field(
        4 * 2**20, description="How large a manifest, or another answer of the registry, may be.", gt=0
    )
    registry_token_early_seconds: float = Field(
        15.0, description="How long before its expiry a registry token is replaced; half its life at most.", ge=0
    )
    registry_health_seconds: float = Field(
        30.0, description="How long the registry's last answer counts for health.", ge=0
    )
