"""Images: the lookup that every image store offers (a registry, an engine, a folder), and their labels."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from services.common.models import Build
from services.common.version import VERSION


@dataclass(frozen=True)
class ExistingImage:
    """An image that exists."""

    digest: str | None = None
    """None in a store that has no digests."""


class ImageLookup(Protocol):
    """The lookup of images in the store of an executor."""

    async def find(self, image: str) -> ExistingImage | None:
        """Return the image, or None if it does not exist.

        Raise `BinderyError("registry_unavailable")` if that can't be determined: guessing "no" would rebuild
        everything.
        """

    async def health_problem(self) -> str | None:
        """Return a sentence for health that names the problem, or None."""

    async def aclose(self) -> None:
        """Close connections."""


def image_labels(build: Build) -> tuple[tuple[str, str], ...]:
    """Return the labels of a build's image: OCI's annotation keys if there is one for the fact, else our own."""
    created = datetime.fromtimestamp(build.started_at or build.created_at, UTC).isoformat(timespec="seconds")
    return (
        ("org.opencontainers.image.source", build.repo_url),
        ("org.opencontainers.image.revision", build.ref),
        ("org.opencontainers.image.created", created),
        ("bindery.version", VERSION),
        ("bindery.build-id", build.build_id or ""),
    )
