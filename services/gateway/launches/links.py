"""Launch links: from the form's fields to a link and its badge, and from an address back to its spec."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, urlencode

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.service.logging import quotable
from services.gateway.launches.repository_types import RepositoryType

_PAGE_OF_REPOSITORY = re.compile(
    r"(?P<repo>[^/]+/[^/]+)/(?:tree|commit|(?P<file>blob))/(?P<ref>[^/]+)(?:/(?P<path>.+))?"
)
_SAFE = "/!$&'()*+,;=:@-._~"
_FIELD_MAX_LENGTH = 2048
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
_LOGIN = re.compile(r"(?i)^(https?(?::|%3A)(?:/|%2F){2})(?:(?!%2F|%3F|%23)[^/?#])*(@|%40)")


@dataclass(frozen=True)
class Link:
    """A launch link: the spec to launch, and the path to open in the server (`urlpath`)."""

    spec: Spec
    path: str = ""

    def url(self, base: str) -> str:
        """Return the link's address under `base`, which ends with a slash."""
        query = "?" + urlencode({"urlpath": self.path}) if self.path else ""
        return f"{base}v2/{self.spec}{query}"

    def markdown(self, base: str) -> str:
        """Return a badge with this link, in Markdown."""
        return f"[![Launch on Bindery]({base}badge_logo.svg)]({self.url(base)})"

    def rest(self, base: str) -> str:
        """Return a badge with this link, in reStructuredText."""
        return f".. image:: {base}badge_logo.svg\n   :target: {self.url(base)}\n   :alt: Launch on Bindery"


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

    def link(self, repository_type: RepositoryType) -> Link:
        """Return the launch link that the form asks for.

        Raise `BinderyError("bad_spec")` if the repository is missing or not of this type.
        """
        repository = self.repository
        ref = self.ref
        path = self.path
        is_file = self.path_kind == "file"

        # A pasted address of a page of the repository names its ref, and perhaps a file, too.
        if repository_type.detect_pattern:
            match = re.fullmatch(repository_type.detect_pattern, repository)
            repository = match["repo"] if match else ""
            page = _PAGE_OF_REPOSITORY.fullmatch(repository) if repository_type.has_ref else None
            if page:
                repository = page["repo"]
                ref = ref or unquote(page["ref"])
                if page["file"] and page["path"] and not path:
                    path = unquote(page["path"])
                    is_file = True
        if not repository:
            raise BinderyError("bad_spec", f"Which repository? Fill in: {repository_type.label}.")

        spec = quote(repository, safe="" if repository_type.is_url_encoded else _SAFE + "%")
        if repository_type.has_ref:
            spec += "/" + quote(ref or repository_type.default_ref, safe="/")
        if not repository_type.accepts(spec):
            example = repository_type.example or repository_type.label
            raise BinderyError("bad_spec", f"{quotable(repository)} does not look like this: {example}")

        if path and is_file:
            path = "/doc/tree/" + quote(path.strip("/"), safe=_SAFE)
        return Link(Spec(provider=repository_type.id, spec=spec), path)


def without_login(spec: Spec) -> Spec:
    """Return `spec` as a record may keep it: the part of a web URL before the `@`, perhaps a token, becomes `***`.

    Such a spec is refused all the same, and with the same message.
    """
    return spec.model_copy(update={"spec": _LOGIN.sub(r"\1***\2", spec.spec)})


def raw_spec(raw_path: bytes) -> str:
    """Return the spec in the raw path `/<page>/<provider>/<spec>`: encoded as it came, without a final slash."""
    parts = quote(raw_path.partition(b"?")[0], safe=_PRINTABLE).split("/", 3)
    return parts[3].rstrip("/") if len(parts) == 4 else ""
