"""Unpacking compressed tar files: folders, plain files that may be programs, and links that stay inside."""

import gzip
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from services.builder.executors.process.session.archives.budget import CHUNK_BYTES, Budget
from services.builder.executors.process.session.archives.listing import shown
from services.builder.executors.process.session.archives.packed_file import READ_MAX_BYTES, PackedFile, PackedFileError
from services.builder.executors.process.session.archives.tree import NewTree
from services.common.models.errors import BinderyError

_OWNER_RUNS = 0o100
_BLOCK_BYTES = 512
_DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip


def unpack_tar(path: Path, tree: NewTree, budget: Budget, *, name: str) -> None:
    """Unpack a file into an empty tree, but for its links: those are left to `NewTree.make_links`.

    Block until that is done; `name` is the file's for sentences. Raise as `unpack_zip` does.
    """
    # Each entry has its header and perhaps a long name beside its content, which is padded.
    max_position = budget.max_bytes + budget.max_files * 8 * _BLOCK_BYTES
    with _refusing(name), gzip.open(path) as file:
        packed = PackedFile(cast("IO[bytes]", file), max_read_bytes=READ_MAX_BYTES, max_position=max_position)
        with tarfile.open(fileobj=packed, mode="r:") as archive:
            for member in archive:
                _unpack_member(archive, member, tree, budget, name)
        while packed.read(CHUNK_BYTES):  # to the checksum at the end
            pass


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: NewTree, budget: Budget, name: str) -> None:
    if member.isdir():
        tree.add_folder(member.name)
    elif member.issym():
        tree.add_link(member.name, member.linkname)
    elif member.isreg():
        source = archive.extractfile(member)
        chunks = budget.chunks(source) if source else iter(())
        tree.write_file(member.name, chunks, is_program=bool(member.mode & _OWNER_RUNS))
    else:
        raise BinderyError(
            "build_failed",
            f"{shown(member.name)!r} in {name} is neither a file, a folder nor a link, and is not unpacked.",
        )


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except PackedFileError as error:
        raise BinderyError(
            "repository_too_large", f"{name} can't be unpacked: it is larger than allowed here."
        ) from error
    except _DAMAGE as error:
        raise BinderyError("build_failed", f"{name} can't be unpacked: it is damaged.") from error
