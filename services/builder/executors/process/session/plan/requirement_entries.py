"""One requirement, as pip understands it, in the form that uv takes."""

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement

from services.builder.executors.process.session.plan.places import Places, one_word, path_of, scheme_of
from services.builder.executors.process.session.plan.requirement_lines import InvalidLineError

_ARCHIVES = (".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma", ".tlz")
_VCS = ("git", "hg", "svn", "bzr")
_GIT_TRANSPORTS = ("https", "http", "ssh", "file")
_EXTRAS = re.compile(r"(.+)(\[[^\]]+\])")
_EGG = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?")


class OtherVcsError(InvalidLineError):
    """A requirement that pip gets by a program that uv does not call: Mercurial, Subversion, Bazaar."""


@dataclass(frozen=True)
class Entry:
    """A line for uv, and the name of its package if the line has one."""

    text: str
    name: str | None = None


def package_entry(text: str, places: Places) -> Entry:
    """Return the entry of a requirement: a name, a URL or a path, each perhaps with a marker.

    Raise `InvalidLineError`, and `OtherVcsError`.
    """
    is_url = _is_url(text)
    name, _, marker = text.partition("; " if is_url else ";")
    entry = _url_entry(name.strip(), places) if is_url else _name_or_path(name.strip(), places)
    return Entry(entry.text + _marker(marker.strip()), entry.name)


def editable_entry(text: str, places: Places) -> Entry:
    """Return the entry of what follows `-e`. A package of git is only installed, because uv does not edit those.

    Raise `InvalidLineError`, and `OtherVcsError`.
    """
    bare, extras = _split_extras(text)
    if places.has_folder(bare):
        return Entry(f"-e {places.project(bare)}{extras}")
    if scheme_of(bare) == "file":
        return Entry(f"-e {places.project(path_of(bare))}{extras}")

    url = f"{scheme_of(text)}+{text}" if scheme_of(text) in _VCS else text
    if _is_vcs(url):
        return _url_entry(url, places)
    if "@" in text and _is_vcs(text.partition("@")[2].strip()):
        return _named_entry(text, places)
    raise InvalidLineError(f"-e {text}: there is no such folder, and it is not the URL of a git repository")


def _name_or_path(text: str, places: Places) -> Entry:
    bare, extras = _split_extras(text)
    if _looks_like_path(text) and places.has_folder(bare):
        return Entry(f"{places.project(bare)}{extras}")

    if bare.lower().endswith(_ARCHIVES):
        if places.has_file(bare):
            return Entry(f"{places.path(bare).as_uri()}{extras}")
        if "@" not in text or _looks_like_path(text.partition("@")[0]):
            raise InvalidLineError(f"there is no file {bare}")
    return _named_entry(text, places)


def _named_entry(text: str, places: Places) -> Entry:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        if _looks_like_path(text):
            raise InvalidLineError(f"there is no {text}") from None
        raise InvalidLineError(f"{text!r} is not a requirement as pip understands it") from None

    if requirement.url:
        requirement.url = _checked_url(requirement.url, places)
    return Entry(str(requirement), requirement.name)


def _url_entry(url: str, places: Places) -> Entry:
    """Return the entry of a URL; the name of `#egg=name` moves to its front."""
    address, _, fragment = url.partition("#")
    parts = [part for part in fragment.split("&") if part]
    egg = next((unquote(part.removeprefix("egg=")) for part in parts if part.startswith("egg=")), "")
    rest = "&".join(part for part in parts if not part.startswith("egg="))

    checked = _checked_url(f"{address}#{rest}" if rest else address, places)
    match = _EGG.fullmatch(egg)
    return Entry(f"{egg} @ {checked}", match[1]) if match else Entry(checked)


def _checked_url(url: str, places: Places) -> str:
    scheme = scheme_of(url)
    vcs, _, transport = scheme.partition("+")
    if vcs in _VCS and (vcs != "git" or transport not in _GIT_TRANSPORTS):
        raise OtherVcsError(f"a package that is fetched by {scheme}")

    if scheme == "file":
        _, mark, fragment = url.partition("#")
        return f"{places.path(path_of(url)).as_uri()}{mark}{fragment}"
    if scheme == "git+file":
        places.path(path_of(url.removeprefix("git+").partition("@")[0]))
    return one_word(url)


def _marker(text: str) -> str:
    if not text:
        return ""
    try:
        return f" ; {Marker(text)}"
    except InvalidMarker:
        raise InvalidLineError(f"{text!r} is not an environment marker") from None


def _is_url(text: str) -> bool:
    return scheme_of(text) in ("http", "https", "file", "ftp") or _is_vcs(text)


def _is_vcs(text: str) -> bool:
    vcs, mark, _ = scheme_of(text).partition("+")
    return bool(mark) and vcs in _VCS


def _split_extras(text: str) -> tuple[str, str]:
    match = _EXTRAS.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def _looks_like_path(text: str) -> bool:
    return os.sep in text or text.startswith(".")
