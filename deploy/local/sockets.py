"""The folder of the stack's Unix sockets: only we may enter it, and its name is short enough for the system.

It is not the data folder, whose name may have any length: macOS has 104 bytes for the path of a socket and the zero
at its end, Linux 108.
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
    """Return the folder for the sockets of a stack: below XDG_RUNTIME_DIR if possible, else below /tmp."""
    *preferred, last = _candidates(data_dir, environ)
    return next((folder for folder in preferred if _is_usable(folder)), last)


def open_socket_folder(folder: Path) -> None:
    """Create the folder if it is missing. Raise `StartupError` for one that other users could change."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise StartupError(
            f"{folder}, for the sockets of the components, can't be created: {error.strerror}."
        ) from None

    status = folder.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        raise _not_ours(folder, "is a link or a file")
    if status.st_uid != os.geteuid():
        raise _not_ours(folder, f"belongs to another user ({status.st_uid})")
    if mode != 0o700:
        raise StartupError(
            f"{folder}, for the sockets of the components, is open to others (mode {mode:o}): "
            f"remove it, or `chmod 700 {folder}` if nobody else has put anything there."
        )


def remove_socket_folders(data_dir: Path, environ: Mapping[str, str]) -> None:
    """Remove the folders of a data folder's stack, wherever its sockets were."""
    for folder in _candidates(data_dir, environ):
        if _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _not_ours(folder: Path, what: str) -> StartupError:
    return StartupError(
        f"{folder}, for the sockets of the components, {what}: somebody created it before Bindery did. Remove it, or "
        "ask the administrator to remove it; until then, set XDG_RUNTIME_DIR to a folder of yours with mode 700, or "
        "BINDERY_DATA_DIR to another folder."
    )


def _candidates(data_dir: Path, environ: Mapping[str, str]) -> list[Path]:
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    shared = SHARED / f"bindery-{os.geteuid()}-{name}"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return [Path(runtime) / f"bindery-{name}", shared] if runtime.startswith("/") else [shared]


def _is_usable(folder: Path) -> bool:
    return _is_ours(folder.parent) and len(os.fsencode(folder)) + LONGEST_NAME_BYTES <= LONGEST_PATH_BYTES


def _is_ours(folder: Path) -> bool:
    """Return whether it is a folder, not a link, of this user that no other user may enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False

    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
