"""Environments that were copied: what in them names the places of the originals leads to the copies."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

_EDITABLE = re.compile(rb'"editable":\s*true')
"""In `direct_url.json` (PEP 610)."""


class Moves:
    """Where the copies of folders are: `copies` has the original folders and their copies, all absolute."""

    def __init__(self, copies: Mapping[Path, Path]) -> None:
        self._copies = {os.fsencode(original): os.fsencode(copy) for original, copy in copies.items()}
        self._pattern = re.compile(b"|".join(re.escape(original) + rb"(?![\w.-])" for original in self._copies))

    def text(self, content: bytes) -> bytes:
        """Return a text in which each path of an original is the copy's."""
        return self._pattern.sub(lambda match: self._copies[match[0]], content)

    def link(self, target: str) -> str:
        """Return where a link leads that led to `target`."""
        path = os.fsencode(target)
        match = self._pattern.match(path)
        return os.fsdecode(self._copies[match[0]] + path[match.end() :]) if match else target

    def prefix(self, content: bytes) -> bytes:
        """Return a binary in which each text with a path of an original, up to its NUL, is as long as before.

        So a copy whose path is longer is not named there.
        """
        for original, copy in self._copies.items():
            if len(copy) <= len(original):
                texts = re.compile(re.escape(original) + rb"[^\0]*")
                content = texts.sub(partial(_as_long, original, copy), content)
        return content


def _as_long(original: bytes, copy: bytes, text: re.Match[bytes]) -> bytes:
    return text[0].replace(original, copy).ljust(len(text[0]), b"\0")


def relocate(env: Path, home: Path, moves: Moves) -> None:
    """Let the copies of an environment and of the home folder beside it lead to copies.

    It does so where tools write places down: in scripts, in kernels, in what editable installs leave, where conda wrote
    the prefix; and in the same places of `~/.local`, and of virtual environments at the top of the home folder. Links
    are relocated as they are copied (`copy_tree`). Raise `OSError` or `ValueError` if the copies can't be changed.
    """
    made = [configuration.parent for configuration in home.glob("*/pyvenv.cfg")]
    for prefix in (env, home / ".local", *made):
        for path in _places_with_paths(prefix):
            if not _is_copied_file(path, env, home):
                continue
            content = path.read_bytes()
            if (moved := moves.text(content)) != content and b"\0" not in content:
                path.write_bytes(moved)

    for path, is_text in _files_of_conda(env):
        content = path.read_bytes()
        if (moved := moves.text(content) if is_text else moves.prefix(content)) != content:
            path.write_bytes(moved)


def _files_of_conda(env: Path) -> Iterator[tuple[Path, bool]]:
    """Return the files that conda wrote the prefix into, and whether they are text.

    Source: the field `prefix_placeholder` of `conda-meta/*.json`.
    """
    for record in env.glob("conda-meta/*.json"):
        paths = json.loads(record.read_bytes()).get("paths_data", {}).get("paths", [])
        for entry in paths:
            path = env / entry["_path"]
            if entry.get("prefix_placeholder") and path.is_file() and not path.is_symlink():
                yield path, entry.get("file_mode") == "text"


def _places_with_paths(prefix: Path) -> Iterator[Path]:
    yield prefix / "pyvenv.cfg"
    yield from prefix.glob("bin/*")
    yield from prefix.glob("share/jupyter/kernels/*/kernel.json")
    yield from prefix.glob("etc/jupyter/**/*.json")
    for packages in prefix.glob("lib/python*/site-packages"):
        yield from packages.glob("*.pth")
        yield from packages.glob("*.egg-link")
        for origin in packages.glob("*.dist-info/direct_url.json"):
            if _EDITABLE.search(origin.read_bytes()):
                yield from _files_of_package(packages, origin.parent / "RECORD")


def _files_of_package(packages: Path, record: Path) -> Iterator[Path]:
    """Return what an installed package has: for an editable one, what leads to its project, whoever has built it."""
    if record.is_file():
        with record.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
            yield from (packages / row[0] for row in csv.reader(rows) if row)


def _is_copied_file(path: Path, *copies: Path) -> bool:
    """Return whether a path is a file of one of the copies.

    By a link, or by what a repository writes into RECORD, it may lead anywhere.
    """
    place = Path(os.path.realpath(path))
    return (
        place.is_file()
        and not path.is_symlink()
        and any(place.is_relative_to(os.path.realpath(copy)) for copy in copies)
    )
