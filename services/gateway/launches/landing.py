"""Landing URLs: the address that a browser opens when the server is ready, always inside that server."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from services.common.models.errors import BinderyError

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "%!$&'()*+,;=:@-._~"  # characters that stay as they are in a URL; `%` too, so that nothing is encoded twice
_DEFAULT_PORTS = {"http": 80, "https": 443}


def path_from_query(query: Mapping[str, str]) -> str:
    """Return the path that a launch link asks for, relative to the server: `labpath`, else `filepath`, else `urlpath`.

    The first two name a file, to be opened in JupyterLab or the classic tree; the third is used as it is.
    The paths of BinderHub's links are read as there, except that `?` and `#` in a file's name are encoded.
    """
    for name, folder in (("labpath", "doc/tree/"), ("filepath", "tree/")):
        file = query.get(name)
        if file is not None:
            return folder + quote(file.lstrip("/").removesuffix("/"), safe="/!$&'()*+,;=:@-._~")
    return query.get("urlpath", "").lstrip("/")


def landing_url(server_url: str, token: str, path: str) -> str:
    """Return the address to open on a ready server: `path` below `server_url`, with the token in its query.

    The path's own query and fragment stay, except a `token` of its own. An address elsewhere, or a path that leads
    out of the server, opens the server's first page instead: nobody else may get the token.
    """
    base = server_url.rstrip("/") + "/"
    path = "".join(c for c in path if c.isprintable() or c == " ").strip().replace("\\", "/")
    if _ABSOLUTE.match(path):
        path = path[len(base) :] if path.startswith(base) else ""

    rest, _, fragment = path.lstrip("/").partition("#")
    rest, _, query = rest.partition("?")
    if _leads_upwards(rest):
        return landing_url(server_url, token, "")

    fields = [_encoded(field, "/?") for field in query.split("&") if field and not _is_token(field)]
    if token:
        fields.append("token=" + quote(token, safe=""))

    url = base + _encoded(rest, "/")
    if fields:
        url += "?" + "&".join(fields)
    if fragment:
        url += "#" + _encoded(fragment, "/?")
    return url


def require_hub(url: str, hub_url: str) -> str:
    """Return `url` if it is on the hub that this gateway is set up for: same scheme, host and port, below its path.

    Raise `BinderyError("hub_refused")` for any other: then the settings of gateway and launcher, or hub, disagree.
    """
    server = _Address.of(url)
    hub = _Address.of(hub_url)
    if server is None or hub is None or not server.is_below(hub):
        raise BinderyError(
            "hub_refused", "The server's address is not on the hub that this gateway is set up for (BINDERY_HUB_URL)."
        )
    return url


class _Address(NamedTuple):
    """A web address in the parts that decide whether it is below another one."""

    scheme: str
    host: str
    port: int | None
    path: str

    @classmethod
    def of(cls, url: str) -> "_Address | None":
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
            return None
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/") + "/")

    def is_below(self, other: "_Address") -> bool:
        is_same_origin = self[:3] == other[:3]
        return is_same_origin and self.path.startswith(other.path) and not _leads_upwards(self.path)


def _encoded(text: str, also: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_SAFE + also)


def _is_token(field: str) -> bool:
    return any(name == "token" for name, _ in parse_qsl(field, keep_blank_values=True))


def _leads_upwards(path: str) -> bool:
    """Return whether a browser, a proxy or a server that decodes once more could read `path` as leading upwards."""
    for _ in range(4):
        if ".." in re.split(r"[/\\]", path):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True
