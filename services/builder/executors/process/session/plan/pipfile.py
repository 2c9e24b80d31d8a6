"""Pipfile and Pipfile.lock, as `pipenv install --dev` of repo2docker installs them: packages and dev-packages.

The lock wins: its versions are installed as they are, without the dependencies of each, which it lists itself.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.build_plan import PipInstall
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.pipfile_entries import requirement_line
from services.builder.executors.process.session.plan.refusals import cut, quoted, unsupported
from services.builder.executors.process.session.plan.requirement_lines import InvalidLineError
from services.builder.executors.process.session.plan.requirements import RequirementsReader

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_SEPARATE_KERNELS = ("2.7", "3.5", "3.6")

Table = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """What counts of the two files. `sections` are the tables of packages, `sources` the indexes."""

    file: str
    sections: tuple[Table, ...]
    sources: tuple[Table, ...]
    requires: tuple[Table, ...] = ()
    is_locked: bool = False
    pipenv: Table = field(default_factory=dict)


def read_pipfile(checkout: Checkout, variables: Mapping[str, str]) -> tuple[PipInstall | None, str | None, list[str]]:
    """Return the installation, the version of Python if one is named (as 3.11), and notes. Raise `StepError`."""
    contents = _contents(checkout)
    reader = RequirementsReader(checkout, folder=checkout.folder, variables={})
    lines = [*_source_lines(contents, variables)]
    if contents.pipenv.get("allow_prereleases") is True:
        lines.append("--pre")
    for section in contents.sections:
        lines += [_line(contents.file, name, entry) for name, entry in section.items()]
    reader.read_text("\n".join(lines), file=contents.file, base=checkout.folder, names_lines=False)

    # A part of the hashes may be missing, for packages of git and folders: those that are there are checked.
    reader.options.requires_hashes = False
    arguments = ["--no-deps"] if contents.is_locked else []
    return reader.install(contents.file, *arguments), _python(contents), reader.notes


def _contents(checkout: Checkout) -> _Contents:
    pipfile, lock = checkout.find("Pipfile"), checkout.find("Pipfile.lock")
    plain = _toml(checkout, pipfile) if pipfile else {}
    locked = _json(checkout, lock) if lock else {}
    about = _table(locked, "_meta")
    requires = tuple(_table(content, "requires") for content in (about, plain))
    if lock:
        sections = (_table(locked, "default"), _table(locked, "develop"))
        return _Contents(
            file=checkout.name(lock),
            sections=sections,
            sources=_tables(about, "sources"),
            requires=requires,
            is_locked=True,
        )

    sections = (_table(plain, "packages"), _table(plain, "dev-packages"))
    return _Contents(
        file=checkout.name(checkout.folder / "Pipfile"),
        sections=sections,
        sources=_tables(plain, "source"),
        requires=requires,
        pipenv=_table(plain, "pipenv"),
    )


def _source_lines(contents: _Contents, variables: Mapping[str, str]) -> list[str]:
    """Return the indexes as pip's options: pipenv gives pip all of them, the first as the main one."""
    lines = []
    for number, source in enumerate(contents.sources):
        url = source.get("url")
        if not isinstance(url, str) or not url.strip():
            raise build_failed(f"{contents.file}: a source must have a url, and this has none: {quoted(dict(source))}")
        expanded = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2]) or match[0], url)
        lines.append(f"{'--extra-index-url' if number else '--index-url'} {''.join(expanded.split())}")
        if source.get("verify_ssl") is False and (host := re.match(r"https://(?:[^/@]*@)?([^/]+)", expanded)):
            lines.append(f"--trusted-host {host[1]}")
    return lines


def _line(file: str, name: str, entry: object) -> str:
    try:
        return requirement_line(name, entry)
    except InvalidLineError as error:
        raise build_failed(f"{file}, {cut(name, 100)}: {cut(str(error))}") from None


def _python(contents: _Contents) -> str | None:
    """Return the Python of the lock, or else of the Pipfile. What follows the minor version does not count there."""
    for requires in contents.requires:
        for key in ("python_full_version", "python_version"):
            value = requires.get(key)
            if isinstance(value, str) and (match := _VERSION.match(value)):
                version = ".".join(match[0].split(".")[:2])
                if version.startswith("2") or version in _SEPARATE_KERNELS:
                    raise unsupported(contents.file, f"a kernel of Python {version} beside a newer Jupyter")
                return None if version == "3" else version
    return None


def _toml(checkout: Checkout, path: Path) -> Table:
    try:
        return tomllib.loads(checkout.text(path))
    except tomllib.TOMLDecodeError as error:
        raise build_failed(f"{checkout.name(path)} is not valid TOML: {error}") from None


def _json(checkout: Checkout, path: Path) -> Table:
    try:
        content = json.loads(checkout.text(path))
    except (ValueError, RecursionError) as error:
        raise build_failed(f"{checkout.name(path)} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise build_failed(f"{checkout.name(path)} is not a lock of pipenv's: it must have keys like default")
    return content


def _table(content: Table, key: str) -> Table:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _tables(content: Table, key: str) -> tuple[Table, ...]:
    value = content.get(key)
    return tuple(entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()
