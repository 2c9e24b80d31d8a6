"""Where finished images are looked up: a registry, a local engine, or a folder."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from services.common.models import Build
from services.common.version import VERSION


@dataclass(frozen=True)
class FoundImage:
    """An image that exists. `digest` is null where the place knows none."""

    digest: str | None = None


class Images(Protocol):
    """Answers whether an image exists."""

    async def find(self, image: str) -> FoundImage | None:
        """The image, or None where there is none.

        Raises `BinderyError("registry_unavailable")` when nobody can say: guessing "no" would rebuild everything.
        """

    async def trouble(self) -> str | None:
        """For health: a sentence about what is wrong, or None."""

    async def aclose(self) -> None:
        """Let go of connections."""


def labels_of(build: Build) -> tuple[tuple[str, str], ...]:
    """What a built image says of itself: OCI's annotation keys where there is one, else ours."""
    created = datetime.fromtimestamp(build.started_at or build.created_at, UTC).isoformat(timespec="seconds")
    return (
        ("org.opencontainers.image.source", build.repo_url),
        ("org.opencontainers.image.revision", build.ref),
        ("org.opencontainers.image.created", created),
        ("bindery.version", VERSION),
        ("bindery.build-id", build.build_id or ""),
    )
