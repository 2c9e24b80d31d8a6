"""Where a browser goes when the server is ready: always inside that server, whatever path the link asked for."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from services.common.models.errors import BinderyError

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED = "%!$&'()*+,;=:@-._~"  # what a URL may hold as it is; `%` because what is encoded already stays so
_DEFAULT_PORTS = {"http": 80, "https": 443}


def asked_path(query: Mapping[str, str]) -> str:
    """The path that a launch link asks for, relative to the server: `labpath`, else `filepath`, else `urlpath`.

    The first two name a file, to be opened in JupyterLab or the classic tree; the third is used as it is.
    The paths of BinderHub's links are read as there, except that `?` and `#` in a file's name are encoded.
    """
    for name, folder in (("labpath", "doc/tree/"), ("filepath", "tree/")):
        if (file := query.get(name)) is not None:
            return folder + quote(file.lstrip("/").removesuffix("/"), safe="/!$&'()*+,;=:@-._~")
    return query.get("urlpath", "").lstrip("/")


def _splits(path: str) -> tuple[str, str, str]:
    rest, _, fragment = path.partition("#")
    rest, _, query = rest.partition("?")
    return rest, query, fragment


def _encoded(text: str, also: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_ENCODED + also)


def _leaves(path: str) -> bool:
    """Whether a browser, a proxy or a server that decodes once more could take `path` for one that leads upwards."""
    for _ in range(4):
        if ".." in re.split(r"[/\\]", path):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def landing_url(server_url: str, token: str, path: str) -> str:
    """The address to open on a ready server: `path` below `server_url`, with the token in its query.

    The path's own query and fragment stay, but for a `token` of its own. An address elsewhere, or a path that leads
    out of the server, opens the server's first page instead: nobody else may get the token.
    """
    base = server_url.rstrip("/") + "/"
    path = "".join(c for c in path if c.isprintable() or c == " ").strip().replace("\\", "/")
    if _ABSOLUTE.match(path):
        path = path[len(base) :] if path.startswith(base) else ""
    rest, query, fragment = _splits(path.lstrip("/"))
    if _leaves(rest):
        rest, query, fragment = "", "", ""
    kept = [
        _encoded(part, "/?")
        for part in query.split("&")
        if part and not any(name == "token" for name, _ in parse_qsl(part, keep_blank_values=True))
    ]
    if token:
        kept.append("token=" + quote(token, safe=""))
    url = base + _encoded(rest, "/")
    if kept:
        url += "?" + "&".join(kept)
    return url + ("#" + _encoded(fragment, "/?") if fragment else "")


def _place(url: str) -> tuple[str, str, int | None, str] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/") + "/"


def require_hub(url: str, hub_url: str) -> str:
    """`url`, if it lies on the hub that this gateway is set up for: same scheme, host and port, below its path.

    Raises `BinderyError("hub_refused")` for any other: the launcher or the hub is set up otherwise than the gateway.
    """
    there, hub = _place(url), _place(hub_url)
    if there is None or hub is None or there[:3] != hub[:3] or not there[3].startswith(hub[3]) or _leaves(there[3]):
        raise BinderyError(
            "hub_refused", "The server's address is not on the hub that this gateway is set up for (BINDERY_HUB_URL)."
        )
    return url
