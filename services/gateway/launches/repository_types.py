"""Repository types: each provider's properties, as forms and links need them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from services.common.models.errors import BinderyError


@dataclass(frozen=True, kw_only=True)
class RepositoryType:
    """One provider, read from its `display_config`, which has BinderHub's shape."""

    id: str
    name: str
    spec_pattern: str
    detect_pattern: str | None
    label: str
    example: str
    is_url_encoded: bool
    has_ref: bool
    default_ref: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Read a provider's `display_config`, whose patterns are JavaScript's."""
        detect_pattern = config.get("detect", {}).get("regex")
        if detect_pattern:
            detect_pattern = re.sub(r"\(\?<(?![=!])", "(?P<", detect_pattern)  # Python writes named groups this way

        return cls(
            id=config["id"],
            name=config["displayName"],
            spec_pattern=config["spec"]["validateRegex"],
            detect_pattern=detect_pattern or None,
            label=config["repo"].get("label", "Repository"),
            example=config["repo"].get("placeholder", "").removeprefix("example: "),
            is_url_encoded=bool(config["repo"].get("urlEncode")),
            has_ref=bool(config["ref"]["enabled"]),
            default_ref=config["ref"].get("default", "HEAD"),
        )

    @property
    def spec_shape(self) -> str:
        """The form of this type's specs, for a person: `<owner>/<name>/<ref>`."""
        repository = "<name>"
        if self.is_url_encoded:
            repository = "<percent-encoded URL>"
        elif self.has_ref:
            repository = "<owner>/<name>"
        return f"{repository}/<ref>" if self.has_ref else repository

    def accepts(self, spec: str) -> bool:
        """Return whether `spec` has the form of this type's links."""
        return len(spec) <= 4096 and re.fullmatch(self.spec_pattern, spec) is not None

    def split(self, spec: str) -> tuple[str, str]:
        """Split a raw spec into repository and ref, decoded as a person reads them; the ref may be empty."""
        if not self.has_ref:
            return unquote(spec), ""

        parts = spec.split("/", 1 if self.is_url_encoded else 2)
        is_one_part = self.is_url_encoded or len(parts) < 3
        repository_parts = 1 if is_one_part else 2
        repository = "/".join(parts[:repository_parts])
        ref = "/".join(parts[repository_parts:])
        return unquote(repository), unquote(ref)


def repository_type(types: Sequence[RepositoryType], provider: str) -> RepositoryType:
    """Return the repository type called `provider`.

    Raise `BinderyError("unknown_provider")`, which names the types that exist, if it is not among `types`.
    """
    for candidate in types:
        if candidate.id == provider:
            return candidate
    names = ", ".join(f"{candidate.id} ({candidate.name})" for candidate in types)
    raise BinderyError("unknown_provider", f"There is no repository type {provider[:64]!r} here. There are: {names}.")
