"""The pointers of Git LFS: small text files that stand in a commit for contents kept elsewhere.

Source: "The Pointer" in git-lfs's docs/spec.md.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from services.common.git.process import GitRunner

_POINTER_BYTES = 1024
_VERSIONS = frozenset({"https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1"})
_OID = re.compile(r"sha256:([0-9a-f]{64})")
_SIZE = re.compile(r"[0-9]{1,18}")
_REGULAR = ("100644 ", "100755 ")
LFS_FILES = ":(top,attr:filter=lfs)"
"""A pathspec of the files to which `.gitattributes` gives the filter `lfs`."""


@dataclass(frozen=True)
class Pointer:
    """The contents that a pointer names: their SHA-256 in hex, and their size in bytes.

    With `has_extensions`, a program of the author's would have to turn them into the file.
    """

    oid: str
    size_bytes: int
    has_extensions: bool = False


@dataclass(frozen=True)
class PointerFile:
    """A pointer in a checkout, at `path` in it."""

    path: str
    pointer: Pointer


def pointer_of(content: bytes) -> Pointer | None:
    """Return the pointer that a file is; None for any other file."""
    if len(content) > _POINTER_BYTES:
        return None

    rows = [line.partition(" ") for line in content.decode("utf-8", "replace").splitlines()]
    values = {key: value for key, _, value in rows}
    if not rows or rows[0][0] != "version" or rows[0][2] not in _VERSIONS:
        return None

    oid = _OID.fullmatch(values.get("oid", ""))
    size = _SIZE.fullmatch(values.get("size", ""))
    if oid is None or size is None:
        return None
    return Pointer(oid[1], int(size[0]), has_extensions=any(key.startswith("ext-") for key in values))


async def pointer_files(git: GitRunner, folder: Path) -> list[PointerFile]:
    """Return the pointers in the checkout at `folder`, by path.

    As with git-lfs, a file counts if `.gitattributes` gives it the filter `lfs`. Bytes of a path that are not UTF-8 are
    surrogates (PEP 383).
    """
    listing = await git.run("ls-files", "-z", "--stage", "--", LFS_FILES, cwd=folder)
    files = []
    for entry in listing.output.split(b"\0"):
        head, _, name = os.fsdecode(entry).partition("\t")
        if head.startswith(_REGULAR) and (pointer := _read(folder, name)):
            files.append(PointerFile(name, pointer))
    return files


def is_plain_file(folder: Path, path: str) -> bool:
    """Return whether `path` leads to a regular file in `folder` itself, and through no link."""
    steps = [folder / parent for parent in Path(path).parents]
    try:
        return stat.S_ISREG((folder / path).lstat().st_mode) and not any(step.is_symlink() for step in steps[:-1])
    except OSError:
        return False


def _read(folder: Path, path: str) -> Pointer | None:
    file = folder / path
    if not is_plain_file(folder, path) or file.lstat().st_size > _POINTER_BYTES:
        return None
    return pointer_of(file.read_bytes())
