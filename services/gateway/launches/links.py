"""Launch links: from what someone types into the form to the link and its badge, and back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.service.logging import shown

_PAGE_OF_REPOSITORY = re.compile(
    r"(?P<repo>[^/]+/[^/]+)/(?:tree|commit|(?P<file>blob))/(?P<ref>[^/]+)(?:/(?P<path>.+))?"
)
_KEPT = "/!$&'()*+,;=:@-._~"
_FIELD_MAX_LENGTH = 2048
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))


@dataclass(frozen=True)
class RepositoryType:
    """What a form has to know about one provider: the gateway's reading of BinderHub's `display_config`."""

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
        """From a provider's `display_config`, whose patterns are JavaScript's."""
        detect = config.get("detect", {}).get("regex")
        return cls(
            id=config["id"],
            name=config["displayName"],
            spec_pattern=config["spec"]["validateRegex"],
            detect_pattern=re.sub(r"\(\?<(?![=!])", "(?P<", detect) if detect else None,
            label=config["repo"].get("label", "Repository"),
            example=config["repo"].get("placeholder", "").removeprefix("example: "),
            is_url_encoded=bool(config["repo"].get("urlEncode")),
            has_ref=bool(config["ref"]["enabled"]),
            default_ref=config["ref"].get("default", "HEAD"),
        )

    def accepts(self, spec: str) -> bool:
        """Whether `spec` has the form of this type's links."""
        return len(spec) <= 4096 and re.fullmatch(self.spec_pattern, spec) is not None

    def split(self, spec: str) -> tuple[str, str]:
        """Repository and ref of a raw spec, decoded, as a person reads them; the ref is empty where there is none."""
        if not self.has_ref:
            return unquote(spec), ""
        pieces = spec.split("/", 1 if self.is_url_encoded else 2)
        if self.is_url_encoded or len(pieces) < 3:
            repository, ref = pieces[0], "/".join(pieces[1:])
        else:
            repository, ref = "/".join(pieces[:2]), pieces[2]
        return unquote(repository), unquote(ref)


@dataclass(frozen=True)
class LaunchForm:
    """What the form holds. `kind` says how `path` is meant: a `file` of the repository or a `url` below the server."""

    provider: str = "gh"
    repository: str = ""
    ref: str = ""
    path: str = ""
    kind: str = "file"

    @classmethod
    def of(cls, fields: Mapping[str, str], types: Iterable[RepositoryType]) -> Self:
        """From a query or a form. An unknown or missing provider becomes the first that there is."""
        known = [found.id for found in types]
        provider = fields.get("provider", "")
        if provider not in known:
            provider = "gh" if "gh" in known or not known else known[0]
        kind = "url" if fields.get("kind") == "url" else "file"
        rest = {name: fields.get(name, "").strip()[:_FIELD_MAX_LENGTH] for name in ("repository", "ref", "path")}
        return cls(provider=provider, kind=kind, **rest)

    def link(self, kind: RepositoryType) -> "Link":
        """The launch link that is wished for.

        Raises `BinderyError("bad_spec")` where the repository is missing or not of this type.
        """
        repository, ref, path, is_file = self.repository, self.ref, self.path, self.kind == "file"
        if kind.detect_pattern:
            found = re.fullmatch(kind.detect_pattern, repository)
            repository = found["repo"] if found else ""
            if page := _PAGE_OF_REPOSITORY.fullmatch(repository) if kind.has_ref else None:
                repository, ref = page["repo"], ref or unquote(page["ref"])
                if page["file"] and page["path"] and not path:
                    path, is_file = unquote(page["path"]), True
        if not repository:
            raise BinderyError("bad_spec", f"Which repository? Fill in: {kind.label}.")
        spec = quote(repository, safe="" if kind.is_url_encoded else _KEPT + "%")
        if kind.has_ref:
            spec += "/" + quote(ref or kind.default_ref, safe="/")
        if not kind.accepts(spec):
            raise BinderyError("bad_spec", f"{shown(repository)} does not look like this: {kind.example or kind.label}")
        if path and is_file:
            path = "/doc/tree/" + quote(path.strip("/"), safe=_KEPT)
        return Link(Spec(provider=kind.id, spec=spec), path)


_LOGIN = re.compile(r"(?i)^(https?(?::|%3A)(?:/|%2F){2})(?:(?!%2F|%3F|%23)[^/?#])*(@|%40)")


@dataclass(frozen=True)
class Link:
    """A launch link: what to launch, and the path to open in it (`urlpath`)."""

    spec: Spec
    path: str = ""

    def url(self, base: str) -> str:
        """Its address under `base`, which ends with a slash."""
        query = "?" + urlencode({"urlpath": self.path}) if self.path else ""
        return f"{base}v2/{self.spec}{query}"

    def markdown(self, base: str) -> str:
        return f"[![Launch on Bindery]({base}badge_logo.svg)]({self.url(base)})"

    def rest(self, base: str) -> str:
        return f".. image:: {base}badge_logo.svg\n   :target: {self.url(base)}\n   :alt: Launch on Bindery"


def without_login(spec: Spec) -> Spec:
    """`spec` as a record may keep it: what stands before the `@` of a web URL, a token perhaps, is `***`.

    It is refused all the same, and in the same words.
    """
    return spec.model_copy(update={"spec": _LOGIN.sub(r"\1***\2", spec.spec)})


def raw_spec(raw_path: bytes) -> str:
    """What stands in the raw path `/<page>/<provider>/<spec>` for the spec: encoded as it came, no slash at its end."""
    pieces = quote(raw_path.partition(b"?")[0], safe=_PRINTABLE).split("/", 3)
    return pieces[3].rstrip("/") if len(pieces) == 4 else ""


def repository_type(types: Iterable[RepositoryType], provider: str) -> RepositoryType:
    """The type called `provider`.

    Raises `BinderyError("unknown_provider")` where there is none, naming those that there are.
    """
    types = list(types)
    for found in types:
        if found.id == provider:
            return found
    known = ", ".join(f"{found.id} ({found.name})" for found in types)
    raise BinderyError("unknown_provider", f"There is no repository type {provider[:64]!r} here. There are: {known}.")
