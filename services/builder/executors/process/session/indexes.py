"""The package indexes that an operator names for uv, and the credentials that uv needs for them.

uv hands its environment on to the programs that build a package, a repository's own build backend among them. So the
environment has no credentials: indexes that need some are given as a configuration that only uv reads.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

_INDEXES = ("UV_INDEX", "UV_DEFAULT_INDEX")
_LINKS = "UV_FIND_LINKS"
_CREDENTIAL = re.compile(r"UV_INDEX_\w+_(?:USERNAME|PASSWORD)")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_USERINFO = re.compile(r"(?<=://)([^/\s]*)@")
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)")


@dataclass(frozen=True)
class Indexes:
    """Package indexes, split into the part that every program may see and the part that only uv may see.

    `environment` is for uv and all that it starts. `configuration` is the text of a uv.toml for uv alone; it is empty
    if no index needs credentials. `secrets` are those of the configuration and of the proxies' URLs, for redaction.
    """

    environment: dict[str, str]
    configuration: str
    secrets: tuple[str, ...]


def is_of_indexes(name: str) -> bool:
    """Return whether a variable of the environment names a package index or a credential for one."""
    return name in _INDEXES or name == _LINKS or _CREDENTIAL.fullmatch(name) is not None


def without_indexes(session: Mapping[str, str]) -> dict[str, str]:
    """Return a session's environment without the operator's indexes, for a repository that chose its own.

    Folders and pages of `UV_FIND_LINKS` stay: pip keeps its own, too, when a file names an index.
    """
    return {name: value for name, value in session.items() if name == _LINKS or not is_of_indexes(name)}


def read_indexes(session: Mapping[str, str]) -> Indexes:
    """Separate the credentials of a session's environment (in URLs, or uv's `UV_INDEX_<NAME>_PASSWORD`) from the rest.

    Source: uv's documentation of package indexes.
    """
    environment = {name: session[name] for name in (*_INDEXES, _LINKS) if session.get(name, "").strip()}
    links = [link.strip() for link in environment.get(_LINKS, "").split(",") if link.strip()]
    indexes = [
        (_with_credentials(index, session), name == "UV_DEFAULT_INDEX")
        for name in _INDEXES
        for index in environment.get(name, "").split()
    ]

    configuration = ""
    if _has_credentials(links):
        del environment[_LINKS]
        configuration += f"find-links = {json.dumps(links)}\n"
    if _has_credentials(index for index, _ in indexes):
        # All indexes move, not only those with credentials, so that uv still asks them in the same order.
        environment = {name: value for name, value in environment.items() if name not in _INDEXES}
        configuration += "".join(_table(index, is_default) for index, is_default in indexes)

    urls = [*links, *(index for index, _ in indexes)]
    urls += [value for name, value in session.items() if name.lower() in _PROXIES]
    return Indexes(environment, configuration, tuple(_secrets(urls)))


def _has_credentials(urls: Iterable[str]) -> bool:
    return any(_USERINFO.search(url) for url in urls)


def _table(index: str, is_default: bool) -> str:
    match = _NAMED.fullmatch(index)
    lines = ["[[index]]", f"url = {json.dumps(match[2] if match else index)}"]
    lines += [f"name = {json.dumps(match[1])}"] if match else []
    lines += ["default = true"] if is_default else []
    return "\n".join(lines) + "\n"


def _with_credentials(index: str, session: Mapping[str, str]) -> str:
    """Put `UV_INDEX_<NAME>_USERNAME` and `…_PASSWORD` into the URL of a named index, as uv would.

    uv itself never sees these two: a repository's configuration may give the same name to an index of its own.
    """
    match = _NAMED.fullmatch(index)
    if not match:
        return index

    variable = "UV_INDEX_" + re.sub(r"[^A-Za-z0-9]", "_", match[1]).upper()
    user = session.get(f"{variable}_USERNAME", "")
    password = session.get(f"{variable}_PASSWORD", "")
    if not user and not password:
        return index

    scheme, mark, rest = _USERINFO.sub("", match[2]).partition("://")
    return f"{match[1]}={scheme}{mark}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _secrets(urls: Iterable[str]) -> Iterable[str]:
    """Yield the secrets of URLs in each spelling that a log may show: a password, or a token in place of a user."""
    for userinfo in (match[1] for url in urls for match in _USERINFO.finditer(url)):
        user, _, password = userinfo.partition(":")
        secret = password or user
        yield from dict.fromkeys([secret, unquote(secret)])
        if password:
            yield b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
