"""The packages that all builds share: used by many at once, and emptied only while nobody uses them."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".bindery.lock"


@contextmanager
def in_use(cache: Path, *, max_bytes: int) -> Iterator[None]:
    """Use the cache beside other builds; py-rattler locks each package. Afterwards shrink it to `max_bytes`.

    Packages that were used longest ago go first. While another build uses the cache it is left as it is: the next one
    that ends alone shrinks it. Blocks.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _shrink(packages_folder(cache), max_bytes)


def packages_folder(cache: Path) -> Path:
    """Return the folder of the unpacked packages."""
    return cache / "pkgs"


def repodata_folder(cache: Path) -> Path:
    """Return the folder of the channels' indexes."""
    return cache / "repodata"


def _shrink(folder: Path, max_bytes: int) -> None:
    sizes = {path: _size_bytes(path) for path in _folders(folder)}
    total = sum(sizes.values())
    for path in sorted(sizes, key=_used_at):
        if total <= max_bytes:
            return
        total -= sizes[path]
        # The lock beside it goes last: without it nothing is taken for a whole package.
        shutil.rmtree(path, ignore_errors=True)
        _lock_of(path).unlink(missing_ok=True)


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def _used_at(path: Path) -> float:
    return max((each.stat().st_mtime for each in (path, _lock_of(path)) if each.exists()), default=0)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _size_bytes(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 -- twice as fast, and it counts
        for parent, _, files in os.walk(folder)
        for name in files
    )
