"""Where finished images are looked up: a registry, a local engine, or a folder."""

from dataclasses import dataclass
from typing import Protocol


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
