"""The settings of the `docker` executor."""

import re
from typing import Self

from pydantic import Field, field_validator

from services.builder.settings import BuilderSettings
from services.common.service.sizes import parse_size

_USER = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")


class DockerSettings(BuilderSettings):
    """The builder's settings, and those of its containers."""

    docker_host: str = Field(
        "unix:///var/run/docker.sock",
        description="The engine, as this process reaches it: a socket (unix://) or tcp://host:port.",
    )
    docker_build_host: str = Field(
        "", description="The engine, as repo2docker's containers reach it, with a socket's path on the engine's own "
        "machine; empty: as docker_host."
    )  # fmt: skip
    docker_build_user: str = Field(
        "0:0", description="The user and group that repo2docker runs as in its containers, as numbers; empty: the "
        "image's own. A user that is not root needs docker_build_group for a socket."
    )  # fmt: skip
    docker_build_group: int | None = Field(
        None, description="The number of the group, on the engine's machine, of the socket in docker_build_host, if "
        "docker_build_user is not root.", ge=0
    )  # fmt: skip
    docker_network: str = Field(
        "bridge",
        description="The network of repo2docker's containers: bridge, host, or the name of another one in the engine.",
    )
    docker_connect_seconds: float = Field(5.0, description="How long connecting to the engine may take.", gt=0)
    docker_read_seconds: float = Field(30.0, description="How long the engine may take for one answer.", gt=0)
    docker_log_quiet_seconds: float = Field(
        60.0, description="How long a followed log may be silent before the container itself is inspected.", gt=0
    )
    docker_pull_seconds: float = Field(
        600.0, description="How long pulling the builder image may take, if the engine does not have it.", gt=0
    )
    docker_log_max_bytes: int = Field(
        64 * 2**20, description="Size of a container's log at which the engine rotates it; it keeps two of them.", gt=0
    )

    @field_validator("docker_host", "docker_build_host")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value and not value.startswith(("unix:///", "tcp://")):
            raise ValueError("an engine is unix:///path or tcp://host:port")
        return value

    @field_validator("docker_build_user")
    @classmethod
    def _numbers(cls, value: str) -> str:
        if value and not _USER.fullmatch(value):
            raise ValueError("a user and group are two numbers, as 10001:10001")
        return value

    @field_validator("build_memory_limit")
    @classmethod
    def _quantity(cls, value: str) -> str:
        if not value:
            return value
        try:
            parse_size(value, base=1000)
        except ValueError as error:
            raise ValueError("memory is a number of bytes, or one with K, M, G, Ki, Mi, Gi") from error
        return value

    @classmethod
    def engine_of(cls, settings: BuilderSettings) -> Self:
        """Return the engine's address and deadlines, for an installation whose builds run elsewhere.

        The memory limit is left out: it may have a form that only the other platform accepts.
        """
        return cls.of(settings.model_copy(update={"build_memory_limit": ""}))

    @property
    def build_owner(self) -> tuple[int, int]:
        """User and group that the files of repo2docker's containers belong to."""
        user, _, group = (self.docker_build_user or "0:0").partition(":")
        return int(user), int(group)

    @property
    def memory_bytes(self) -> int:
        """`build_memory_limit` in bytes; 0 if there is no limit."""
        if not self.build_memory_limit:
            return 0
        return parse_size(self.build_memory_limit, base=1000)
