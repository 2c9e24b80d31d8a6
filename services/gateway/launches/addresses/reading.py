"""What an address says: the links that it may mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote, unquote

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable
from services.gateway.launches.addresses.sites import Place
from services.gateway.launches.links import Link, file_path, folder_path
from services.gateway.launches.repository_types import RepositoryType


@dataclass(frozen=True)
class Candidate:
    """One reading of an address: the link, and its ref as a person reads it; empty for a type without refs."""

    link: Link
    ref: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an address says. It has one candidate, or several of which only the forge knows the right one.

    `repository` is its part of a link, percent-encoded as there. `notice` is a sentence about how it was understood.
    """

    repository_type: RepositoryType
    repository: str
    candidates: tuple[Candidate, ...]
    notice: str = ""

    @classmethod
    def of_places(
        cls, repository_type: RepositoryType, repository: str, places: Sequence[Place], notice: str = ""
    ) -> Self:
        """Return the reading of places in a repository. Raise `BinderyError("bad_spec")` if it is not of the type."""
        candidates = []
        for place in places:
            ref = (place.ref or repository_type.default_ref) if repository_type.has_ref else ""
            spec = f"{repository}/{quote(ref, safe='/')}" if ref else repository
            if not repository_type.accepts(spec):
                raise not_a_repository(unquote(repository), repository_type)
            path = ""
            if place.path:
                path = folder_path(place.path) if place.is_folder else file_path(place.path)
            candidates.append(Candidate(Link(Spec(provider=repository_type.id, spec=spec), path), ref))
        return cls(repository_type=repository_type, repository=repository, candidates=tuple(candidates), notice=notice)

    @property
    def is_clear(self) -> bool:
        """Whether nobody needs to be asked what the address means."""
        return len(self.candidates) == 1

    def with_ref(self, ref: str) -> Self:
        """Return the reading with a ref that was given beside the address. Raise `BinderyError("bad_spec")`."""
        if not ref or not self.repository_type.has_ref:
            return self
        same = tuple(candidate for candidate in self.candidates if candidate.ref == ref)
        if same:
            return replace(self, candidates=same[:1])
        path = self.candidates[0].link.path if self.is_clear else ""
        reading = self.of_places(self.repository_type, self.repository, [Place(ref)], self.notice)
        return reading.with_path(path)

    def with_path(self, path: str) -> Self:
        """Return the reading with another path to open in the server; with an empty one, as it is."""
        if not path:
            return self
        candidates = [replace(candidate, link=replace(candidate.link, path=path)) for candidate in self.candidates]
        return replace(self, candidates=tuple(candidates))


def not_a_repository(text: str, repository_type: RepositoryType) -> BinderyError:
    """Return the error for a text that is no repository of a type."""
    example = repository_type.example or repository_type.label
    return BinderyError("bad_spec", f"A repository of this type looks like {example}, and {quotable(text)!r} does not.")
