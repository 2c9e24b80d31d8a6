"""Copies of folders of an image, for a system without overlays: what nobody shares, nobody changes for others.

Where the file system can, a copy shares the blocks of its source until one of the two is changed.
"""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

_FICLONE = 0x40049409
_NOT_CLONED = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}


def copy_tree(
    source: Path,
    target: Path,
    *,
    left_out: Callable[[str], object],
    without: Collection[Path] = (),
    merge: bool = False,
    link: Callable[[str], str] = str,
) -> None:
    """Copy a folder with what is below it, links as links and holes as holes, and let its owner write everywhere.

    Pipes, sockets, devices and what can't be read are left out, with a line to `left_out` for each. `without` are
    paths in the source. With `merge`, what is in the target already stays. `link` returns where the copy of a link
    leads. Raise `OSError` if it can't be written.
    """
    target.mkdir(parents=True, exist_ok=merge)
    try:
        entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    except PermissionError:
        left_out(f"{source} is left out: it can't be read")
        return

    for entry in entries:
        path, copy = Path(entry.path), target / entry.name
        if path in without:
            continue
        if entry.is_symlink():
            if not (merge and os.path.lexists(copy)):
                copy.symlink_to(link(str(path.readlink())))
        elif entry.is_dir():
            if not (merge and copy.exists() and not copy.is_dir()):
                copy_tree(path, copy, left_out=left_out, without=without, merge=merge, link=link)
        elif not entry.is_file():
            left_out(f"{path} is left out: it is neither a file nor a folder")
        elif not (merge and os.path.lexists(copy)):
            try:
                _copy_file(path, copy)
            except PermissionError:
                left_out(f"{path} is left out: it can't be read")
    _copy_mode(source, target)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        if not _clone(reading.fileno(), writing.fileno()):
            _copy_data(reading.fileno(), writing.fileno())
    _copy_mode(source, target)


def _copy_mode(source: Path, target: Path) -> None:
    status = source.stat()
    target.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR | (stat.S_IRWXU if target.is_dir() else 0))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _clone(source: int, target: int) -> bool:
    """Let a file share the blocks of another one. Return whether the file system does that."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_CLONED:
            return False
        raise
    return True


def _copy_data(source: int, target: int) -> None:
    """Copy the parts of a file that have data; what lies between stays a hole."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in _parts(source, size):
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end and (data := os.read(source, min(end - start, 2**20))):
            start += os.write(target, data)


def _parts(file: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # the rest is a hole
                return
            raise
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end


def make_unwritable(folder: Path) -> None:
    """Take the right to write below `folder` away, so that a server that still knows its path changes nothing there."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in [*files, *folders]:
            path = Path(parent, name)
            with suppress(OSError):
                if not path.is_symlink():
                    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
