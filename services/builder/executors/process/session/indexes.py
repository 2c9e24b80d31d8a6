"""Where packages come from, as an operator says it to uv, and how uv learns the credentials for that.

uv hands its environment on to whatever builds a package: a repository's own build backend among them. So what stands
there has no credentials, and the indexes that need some come as a configuration that uv alone reads.
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
    """`environment` is for uv and all that it starts, `configuration` (a uv.toml; empty where none is needed) for uv.

    `secrets` stand in the configuration, or in the proxies' URLs, which every program of a build gets.
    """

    environment: dict[str, str]
    configuration: str
    secrets: tuple[str, ...]


def is_of_indexes(name: str) -> bool:
    """Whether a variable of the environment says where packages come from, or with which credentials."""
    return name in _INDEXES or name == _LINKS or _CREDENTIAL.fullmatch(name) is not None


def read_indexes(session: Mapping[str, str]) -> Indexes:
    """Take the credentials out of a session's environment: those in URLs, and uv's `UV_INDEX_<NAME>_PASSWORD`."""
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
    if _has_credentials(index for index, _ in indexes):  # all of them: the first is asked first
        environment = {name: value for name, value in environment.items() if name not in _INDEXES}
        configuration += "".join(_table(index, is_default) for index, is_default in indexes)
    known = [*links, *(index for index, _ in indexes)]
    known += [value for name, value in session.items() if name.lower() in _PROXIES]
    return Indexes(environment, configuration, tuple(_secrets(known)))


def _has_credentials(urls: Iterable[str]) -> bool:
    return any(_USERINFO.search(url) for url in urls)


def _table(index: str, is_default: bool) -> str:
    named = _NAMED.fullmatch(index)
    lines = ["[[index]]", f"url = {json.dumps(named[2] if named else index)}"]
    lines += [f"name = {json.dumps(named[1])}"] if named else []
    lines += ["default = true"] if is_default else []
    return "\n".join(lines) + "\n"


def _with_credentials(index: str, session: Mapping[str, str]) -> str:
    """Put into the URL of a named index what `UV_INDEX_<NAME>_USERNAME` and `…_PASSWORD` say, as uv would.

    uv itself never sees these: a repository's configuration may give the same name to an index of its own.
    """
    if not (named := _NAMED.fullmatch(index)):
        return index
    variable = "UV_INDEX_" + re.sub(r"[^A-Za-z0-9]", "_", named[1]).upper()
    user, password = (session.get(f"{variable}_{what}", "") for what in ("USERNAME", "PASSWORD"))
    if not user and not password:
        return index
    scheme, mark, rest = _USERINFO.sub("", named[2]).partition("://")
    return f"{named[1]}={scheme}{mark}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _secrets(urls: Iterable[str]) -> Iterable[str]:
    """Return what of URLs is secret, in the spellings that a log may show: a password, or a token instead of a user."""
    for found in (found for url in urls for found in _USERINFO.finditer(url)):
        user, _, password = found[1].partition(":")
        secret = password or user
        yield from dict.fromkeys([secret, unquote(secret)])
        if password:
            yield b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
