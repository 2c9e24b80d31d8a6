"""Unpacking ZIP files: folders and plain files, and nothing that they say of links, devices and rights.

Python's own unpacking, which repo2docker uses, takes no notice of those either: a link is a file with its target as the
text. Files that are packed otherwise than by deflate are refused: what others can become at once is not bounded.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.packed_file import (
    ENTRY_BYTES,
    READ_MAX_BYTES,
    PackedFile,
    PackedFileError,
)
from services.builder.executors.process.session.archives.tree import NewTree
from services.common.models.errors import BinderyError

_IS_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)


def is_zip(path: Path) -> bool:
    """Return whether a file is a ZIP file, whatever its name."""
    return zipfile.is_zipfile(path)


def unpack_zip(path: Path, tree: NewTree, budget: Budget, *, name: str) -> None:
    """Unpack a file into an empty tree. Block until that is done; `name` is the file's for sentences.

    Raise `BinderyError`: `repository_too_large`, `build_failed` for what is not unpacked, `fetch_failed` if it can't be
    written. Raise `TimeoutError`.
    """
    max_read_bytes = max(READ_MAX_BYTES, ENTRY_BYTES * budget.max_files)
    with _refusing(name), path.open("rb") as file:
        packed = PackedFile(file, max_read_bytes=max_read_bytes)
        with zipfile.ZipFile(packed) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith("/"):
                    tree.add_folder(entry.filename)
                else:
                    _unpack_entry(archive, entry, tree, budget)


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, tree: NewTree, budget: Budget) -> None:
    if entry.flag_bits & _IS_ENCRYPTED:
        raise _NotUnpackedError("is locked by a password")
    if entry.compress_type not in _METHODS:
        raise _NotUnpackedError("is packed by another method than deflate")

    with archive.open(entry) as source:
        tree.write_file(entry.filename, budget.chunks(source))


class _NotUnpackedError(Exception):
    """Why a file is not unpacked: the end of the sentence that begins with its name."""


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except _NotUnpackedError as error:
        raise BinderyError("build_failed", f"{name} can't be unpacked: it {error}.") from error
    except PackedFileError as error:
        raise BinderyError("build_failed", f"{name} can't be unpacked: its list of files is too long.") from error
    except _DAMAGE as error:
        raise BinderyError("build_failed", f"{name} can't be unpacked: it is damaged.") from error
