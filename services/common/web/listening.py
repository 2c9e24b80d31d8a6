"""Where a service listens: at a Unix socket, at a socket that whoever started it opened, or at a TCP address."""

import fcntl
import os
import socket
import stat
from pathlib import Path

from services.common.service.settings import ServiceSettings

BACKLOG = 2048
FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


def open_listeners(settings: ServiceSettings) -> list[socket.socket] | None:
    """The sockets to serve on; None where uvicorn is to open host and port itself.

    Sockets that were handed over as sd_listen_fds(3) says come first, then the setting `listen_socket`.
    Raises `SystemExit`, saying what to do, where the Unix socket can't be had.
    """
    if handed_over := _handed_over():
        return handed_over
    return [bind_unix(settings.listen_socket)] if settings.listen_socket else None


def bind_unix(path: Path) -> socket.socket:
    """Listen at `path`, for processes of this user alone; the socket of a process that has ended is replaced.

    Raises `SystemExit` where another process listens there, or no socket can be made.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # One starter at a time: the second would else remove what the first has just made.
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            _clear(path)
            made.bind(str(path))
            path.chmod(0o600)  # nobody can connect before `listen`
            made.listen(BACKLOG)
        finally:
            os.close(folder)
    except OSError as error:  # "AF_UNIX path too long" has no number
        made.close()
        raise SystemExit(
            f"No socket can be made at {path} ({error.strerror or error}): set BINDERY_LISTEN_SOCKET to a path of at "
            "most 103 bytes, in a folder that this process may write to."
        ) from None
    return made


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SystemExit(f"{path} is no socket: remove it, or set BINDERY_LISTEN_SOCKET to another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # one whose backlog is full lives
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise SystemExit(
        f"Another process listens at {path}: end it, or set BINDERY_LISTEN_SOCKET to another path for this one."
    )


def _handed_over() -> list[socket.socket]:
    """The sockets that a supervisor has opened for this very process (LISTEN_PID, LISTEN_FDS)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # they are for us, and for nobody whom we start
    found = [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(count)]
    for one in found:
        one.set_inheritable(False)
    return found
