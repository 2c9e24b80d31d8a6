"""The folder of the stack's Unix sockets: ours alone, and its name short enough for the system.

It is not the data folder, whose name may be as long as its owner likes: macOS gives the path of a socket 104 bytes with
the zero at their end, Linux 108.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from deploy.local.settings import StartupError

LONGEST_PATH_BYTES = 103
LONGEST_NAME_BYTES = len("/worker-1000.sock")
SHARED = Path("/tmp")  # noqa: S108 -- the folder below it is checked; TMPDIR is 49 bytes long on macOS


def socket_folder(data_dir: Path, environ: Mapping[str, str]) -> Path:
    """Where the sockets of this data folder's stack lie: below XDG_RUNTIME_DIR if that will do, else below /tmp."""
    ours = _candidates(data_dir, environ)
    return next((folder for folder in ours[:-1] if _will_do(folder)), ours[-1])


def open_socket_folder(folder: Path) -> None:
    """Make the folder, if it isn't there. Raises `StartupError` for one that others could have a hand in."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise StartupError(f"{folder}, for the sockets of the parts, can't be made: {error.strerror}.") from None
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        raise StartupError(
            f"{folder}, for the sockets of the parts, is open to others (mode {stat.S_IMODE(found.st_mode):o}): "
            f"remove it, or `chmod 700 {folder}` if nobody else has put anything there."
        )
    what = "is a link or a file" if not stat.S_ISDIR(found.st_mode) else f"belongs to another user ({found.st_uid})"
    raise StartupError(
        f"{folder}, for the sockets of the parts, {what}: somebody has made it before Bindery did. Remove it, or have "
        "the administrator do so; until then, set XDG_RUNTIME_DIR to a folder of yours with mode 700, or "
        "BINDERY_DATA_DIR to another folder."
    )


def remove_socket_folders(data_dir: Path, environ: Mapping[str, str]) -> None:
    """Remove what a stack of this data folder has left, wherever it had its sockets."""
    for folder in _candidates(data_dir, environ):
        if _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _candidates(data_dir: Path, environ: Mapping[str, str]) -> list[Path]:
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    shared = SHARED / f"bindery-{os.geteuid()}-{name}"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return [Path(runtime) / f"bindery-{name}", shared] if runtime.startswith("/") else [shared]


def _will_do(folder: Path) -> bool:
    return _is_ours(folder.parent) and len(os.fsencode(folder)) + LONGEST_NAME_BYTES <= LONGEST_PATH_BYTES


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user, that nobody else may enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
