"""Launch links: their addresses and badges, and from an address back to its spec."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from services.common.models import Spec

_SAFE = "/!$&'()*+,;=:@-._~"
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
_LOGIN = re.compile(r"(?i)^(https?(?::|%3A)(?:/|%2F)+)(?:(?!%2F|%3F|%23)[^/?#])*(@|%40)")


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


def file_path(path: str) -> str:
    """Return what opens a file of the repository in the server, below its address."""
    return "/doc/tree/" + quote(path.strip("/"), safe=_SAFE)


def folder_path(path: str) -> str:
    """Return what opens a folder of the repository in the server, below its address."""
    return "/lab/tree/" + quote(path.strip("/"), safe=_SAFE)


def without_login(spec: Spec) -> Spec:
    """Return `spec` as a record may keep it: the part of a web URL before the `@`, perhaps a token, becomes `***`.

    Such a spec is refused all the same, and with the same message.
    """
    return spec.model_copy(update={"spec": _LOGIN.sub(r"\1***\2", spec.spec)})


def raw_spec(raw_path: bytes) -> str:
    """Return the spec in the raw path `/<page>/<provider>/<spec>`: encoded as it came, without a final slash."""
    parts = quote(raw_path.partition(b"?")[0], safe=_PRINTABLE).split("/", 3)
    return parts[3].rstrip("/") if len(parts) == 4 else ""
