"""One package of a Pipfile or its lock, as a line of a requirements file.

Source: pipenv's documentation of Pipfile, and of its lock.
"""

from collections.abc import Mapping

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement

from services.builder.executors.process.session.plan.refusals import quoted
from services.builder.executors.process.session.plan.requirement_lines import InvalidLineError

_MARKERS = (
    "os_name",
    "sys_platform",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_version",
    "python_full_version",
    "implementation_name",
    "implementation_version",
)
_VCS = ("git", "hg", "svn", "bzr")


def requirement_line(name: str, entry: object) -> str:
    """Return the line for a package: `entry` is a version, or a table. Raise `InvalidLineError`."""
    if isinstance(entry, str):
        return _named(name, entry)
    if not isinstance(entry, Mapping):
        raise InvalidLineError(f"{quoted(entry)} is neither a version nor a table")

    extras = _extras(entry)
    hashes = "".join(f" --hash={digest}" for digest in _texts(entry, "hashes"))
    if place := _text(entry, "path") or _text(entry, "file"):
        return _placed(place, f"{name}{extras}" if extras else "", entry) + hashes
    for vcs in _VCS:
        if url := _text(entry, vcs):
            return _from_vcs(vcs, url, f"{name}{extras}", entry)
    return _named(f"{name}{extras}", _text(entry, "version")) + _marker(entry) + hashes


def _named(name: str, version: str) -> str:
    version = version.strip()
    if version in ("", "*"):
        text = name
    elif version[0] in "=<>!~":
        text = name + version
    else:
        text = f"{name}=={version}"

    try:
        return str(Requirement(text))
    except InvalidRequirement:
        raise InvalidLineError(f"{quoted(text)} is not a requirement as pip understands it") from None


def _placed(place: str, name: str, entry: Mapping[str, object]) -> str:
    """Return the line for a folder, an archive or its URL; `name` has the extras, and is empty without any."""
    _refuse_spaces(place)
    if "://" in place and not place.startswith("file:"):
        return f"{_named(name, '')} @ {place}{_marker(entry)}" if name else f"{place}{_marker(entry)}"

    extras = f"[{name.partition('[')[2]}" if name else ""
    if entry.get("editable") is True:
        return f"-e {place}{extras}"
    path = place if place.startswith(("/", ".", "file:")) else f"./{place}"
    return f"{path}{extras}{_marker(entry)}"


def _from_vcs(vcs: str, url: str, name: str, entry: Mapping[str, object]) -> str:
    """Return the line for a repository. It is never edited: a copy in the environment does as well."""
    ref = _text(entry, "ref")
    subdirectory = _text(entry, "subdirectory")
    for part in (url, ref, subdirectory):
        _refuse_spaces(part)
    address = url if url.startswith(f"{vcs}+") else f"{vcs}+{url}"
    end = f"#subdirectory={subdirectory}" if subdirectory else ""
    return f"{_named(name, '')} @ {address}{f'@{ref}' if ref else ''}{end}{_marker(entry)}"


def _refuse_spaces(text: str) -> None:
    if any(character.isspace() or character in "#\\'\"" for character in text):
        raise InvalidLineError(f"{quoted(text)} has a space, a quote, a backslash or a #")


def _marker(entry: Mapping[str, object]) -> str:
    parts = [text for text in [_text(entry, "markers")] if text]
    parts += [f"{key} {text}" for key in _MARKERS if (text := _text(entry, key))]
    joined = " and ".join(f"({part})" for part in parts) if len(parts) > 1 else "".join(parts)
    try:
        return f" ; {Marker(joined)}" if joined else ""
    except InvalidMarker:
        raise InvalidLineError(f"{quoted(joined)} is not an environment marker") from None


def _extras(entry: Mapping[str, object]) -> str:
    extras = _texts(entry, "extras")
    return f"[{','.join(extras)}]" if extras else ""


def _text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidLineError(f"{key} must be text, not {quoted(value)}")
    return value.strip() if value else ""


def _texts(entry: Mapping[str, object], key: str) -> list[str]:
    values = entry.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) and value.split() == [value] for value in values):
        raise InvalidLineError(f"{key} must be a list of words")
    return values
