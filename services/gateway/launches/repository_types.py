"""Repository types: each provider's properties, as forms and links need them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from pydantic import ValidationError

from services.common.models import Site
from services.common.models.base import faults_of
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.common.service.redaction import quotable

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class RepositoryType:
    """One provider, read from its `display_config`, which has BinderHub's shape, and from its rows of `sites`."""

    id: str
    name: str
    spec_pattern: str
    detect_pattern: str | None
    label: str
    example: str
    is_url_encoded: bool
    has_ref: bool
    default_ref: str
    sites: tuple[Site, ...] = ()
    repository_parts: int = 2
    """How many parts of a link, between slashes, name the repository."""

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
            sites=tuple(_sites(config.get("sites", []))),
            repository_parts=1 if config["repo"].get("urlEncode") else config["repo"].get("parts", 2),
        )

    @property
    def has_forks(self) -> bool:
        """Whether commits of a repository's copies may be found under its name: a gist's copy is another gist."""
        return self.has_ref and self.id != "gist"

    @property
    def spec_shape(self) -> str:
        """The form of this type's specs, for a person: `<owner>/<name>/<ref>`."""
        repository = "<name>"
        if self.is_url_encoded:
            repository = "<percent-encoded URL>"
        elif self.has_ref:
            repository = "<owner>/<name>" if self.repository_parts < 3 else "<host>/<owner>/<name>"
        return f"{repository}/<ref>" if self.has_ref else repository

    def accepts(self, spec: str) -> bool:
        """Return whether `spec` has the form of this type's links."""
        return len(spec) <= 4096 and re.fullmatch(self.spec_pattern, spec) is not None

    def check(self, spec: str) -> None:
        """Raise `BinderyError("bad_spec")`, which shows the form of this type's links, unless `accepts` accepts it."""
        if self.accepts(spec):
            return
        raise BinderyError(
            "bad_spec",
            f"{quotable(unquote(spec)) or 'An empty link'!r} is not the link of a {self.name} repository. Such a link "
            f"looks like /v2/{self.id}/{self.spec_shape}, with a repository like {self.example or self.label}.",
        )

    def split(self, spec: str) -> tuple[str, str]:
        """Split a raw spec into repository and ref, decoded as a person reads them; the ref may be empty."""
        if not self.has_ref:
            return unquote(spec), ""

        repository = self.repository_part(spec)
        return unquote(repository), unquote(spec[len(repository) + 1 :])

    def repository_part(self, spec: str) -> str:
        """Return a raw spec without its ref."""
        if not self.has_ref:
            return spec
        parts = spec.split("/", self.repository_parts)
        return "/".join(parts[: self.repository_parts if len(parts) > self.repository_parts else 1])


def _sites(rows: Iterable[object]) -> Iterator[Site]:
    """Yield the rows that this release can read: the resolver may be a newer one."""
    for row in rows:
        try:
            yield Site.model_validate(row)
        except ValidationError as error:
            log.warning("site_unreadable", faults=faults_of(error))


def sites_of(types: Iterable[RepositoryType]) -> list[Site]:
    """Return the table of sites: a provider's own rows before those of `git`, rows for any host at the end."""
    rows = [(candidate.id == "git", site) for candidate in types for site in candidate.sites]
    return [site for _, site in sorted(rows, key=lambda row: (not row[1].url, row[0]))]


def repository_type(types: Sequence[RepositoryType], provider: str) -> RepositoryType:
    """Return the repository type called `provider`.

    Raise `BinderyError("unknown_provider")`, which names the types that exist, if it is not among `types`.
    """
    for candidate in types:
        if candidate.id == provider:
            return candidate
    names = ", ".join(f"{candidate.id} ({candidate.name})" for candidate in types)
    raise BinderyError("unknown_provider", f"There is no repository type {provider[:64]!r} here. There are: {names}.")
