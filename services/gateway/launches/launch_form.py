"""The launch form: what its fields say, read as every address is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.addresses.reading import Reading
from services.gateway.launches.links import file_path
from services.gateway.launches.repository_types import RepositoryType

_FIELD_MAX_LENGTH = 2048


@dataclass(frozen=True, kw_only=True)
class LaunchForm:
    """The fields of the launch form.

    `path_kind` says what `path` names: a `file` of the repository, or a `url` below the server.
    """

    provider: str = "gh"
    repository: str = ""
    ref: str = ""
    path: str = ""
    path_kind: str = "file"

    @classmethod
    def of(cls, fields: Mapping[str, str], types: Sequence[RepositoryType]) -> Self:
        """Read the fields of a query or a form. An unknown or missing provider becomes GitHub or the first type."""
        providers = [candidate.id for candidate in types]
        provider = fields.get("provider", "")
        if provider not in providers:
            provider = "gh" if "gh" in providers or not providers else providers[0]
        texts = {name: fields.get(name, "").strip()[:_FIELD_MAX_LENGTH] for name in ("repository", "ref", "path")}
        return cls(provider=provider, path_kind="url" if fields.get("kind") == "url" else "file", **texts)

    def reading(self, types: Sequence[RepositoryType]) -> Reading:
        """Return what the fields say: the address in `repository`, whose ref and file the other fields replace.

        Raise `BinderyError`: `bad_spec`, `unknown_provider`.
        """
        path = file_path(self.path) if self.path and self.path_kind == "file" else self.path
        return read_address(self.repository, types, self.provider).with_ref(self.ref).with_path(path)

    def with_ref(self, ref: str) -> Self:
        """Return the form with its ref filled in."""
        return replace(self, ref=ref)
