"""What a repository provider is, and what all of them check."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.resolver.settings import ResolverSettings

MAX_REF_LENGTH = 1024


class Provider(ABC):
    """One kind of repository link.

    `prefix` is its part of the address (`/v2/<prefix>/…`); `name` is BinderHub's label for it in metrics and events;
    `display_config` is what BinderHub's pages and clients expect of `/api/repoproviders`.
    """

    prefix: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, settings: ResolverSettings) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def display_config(self) -> dict[str, Any]: ...

    @abstractmethod
    async def resolve(self, spec: str) -> ResolvedRepo:
        """Find out what `spec` (percent-encoded, as in the URL) means now.

        Raises `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found`, `rate_limited`,
        `provider_unavailable`. The caller sets the deadline.
        """

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Other links to the same repository and ref, so that a ban of one is a ban of all."""
        return ()

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """The links of which one must be allowed, where their providers have allowances."""
        return (Spec(provider=self.prefix, spec=spec),)

    async def aclose(self) -> None:  # noqa: B027 - most providers hold nothing open
        """Close what the provider holds open."""


def checked_ref(ref: str, spec: str) -> str:
    """`ref`, if it can be the name of a branch, tag or commit. Raises `BinderyError("bad_spec")`."""
    if not ref:
        raise BinderyError("bad_spec", f"The ref is missing. Did you mean {spec.rstrip('/')}/HEAD?")
    if ref.startswith("-"):
        raise BinderyError("bad_spec", f"A ref can't begin with a dash: {ref[:100]!r}.")
    odd = not ref.isprintable() or " " in ref or "\\" in ref or ".." in ref
    if odd or len(ref) > MAX_REF_LENGTH or any(part in {"", "."} for part in ref.split("/")):
        raise BinderyError("bad_spec", f"{ref[:100]!r} can't be the name of a branch, tag or commit.")
    return ref
