"""`Spec`: a repository link as the user typed it."""

from pydantic import Field

from services.common.models.base import Contract


class Spec(Contract):
    """A repository link: the provider's prefix and the rest of the path, raw and percent-encoded as in the URL."""

    provider: str = Field(max_length=64, examples=["gh"])
    spec: str = Field(max_length=4096, examples=["binder-examples/requirements/HEAD"])

    def __str__(self) -> str:
        return f"{self.provider}/{self.spec}"
