"""Sockets that a service listens on: a Unix socket, sockets inherited from a supervisor, or a TCP address."""

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Any

from services.common.service.settings import ServiceSettings

BACKLOG = 2048
FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


def open_listeners(settings: ServiceSettings) -> list[socket.socket]:
    """Return the sockets to serve on.

    Sockets inherited by the protocol of sd_listen_fds(3) come first, then the setting `listen_socket`, then host and
    port. Raise `SystemExit`, saying what to do, if a socket can't be opened.
    """
    if handed_over := _handed_over():
        return handed_over
    if settings.listen_socket:
        return [bind_unix(settings.listen_socket)]
    return bind_tcp(settings.listen_host, settings.listen_port)


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen at `port` of every address that `host` stands for, and return the sockets.

    Addresses that this machine lacks are passed over if it has another of them: in a container without IPv6,
    `localhost` stands for `::1` all the same.

    Raise `SystemExit`, saying what to do, if the port is in use or may not be used, or if `host` is not of this
    machine.
    """
    listeners: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(addresses):
            try:
                listeners.append(_listen(family, address))
            except OSError as error:
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                lacking = error
        if lacking and not listeners:
            raise lacking
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise SystemExit(_listening_problem(error, host, port)) from None
    return listeners


def _listen(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listening_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is in use: end the process that listens there, or set BINDERY_LISTEN_PORT to "
            "another one."
        )
    if error.errno == errno.EACCES:
        return f"This user may not listen at port {port}: set BINDERY_LISTEN_PORT to 1024 or more."
    return (
        f"This process can't listen at {host} ({error.strerror or error}): set BINDERY_LISTEN_HOST to an address of "
        "this machine, or to 0.0.0.0 for all of them."
    )


def bind_unix(path: Path) -> socket.socket:
    """Listen at `path`, for processes of this user only, and return the socket.

    The socket file of a process that has ended is replaced. Raise `SystemExit` if another process listens there, or
    if the socket can't be created.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    try:
        # One process at a time: otherwise the second would remove what the first has just created.
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            _clear(path)
            listener.bind(str(path))
            path.chmod(0o600)  # nobody can connect before `listen`
            listener.listen(BACKLOG)
        finally:
            os.close(folder)
    except OSError as error:  # "AF_UNIX path too long" has no number
        listener.close()
        raise SystemExit(
            f"No socket can be made at {path} ({error.strerror or error}): set BINDERY_LISTEN_SOCKET to a path of at "
            "most 103 bytes, in a folder that this process may write to."
        ) from None

    return listener


def _clear(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return

    if not stat.S_ISSOCK(status.st_mode):
        raise SystemExit(f"{path} is not a socket: remove it, or set BINDERY_LISTEN_SOCKET to another path.")

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener whose backlog is full is alive too
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
    """Return the sockets that a supervisor has opened for this process (LISTEN_PID, LISTEN_FDS)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # they are for this process, and not for its children
    listeners = [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(count)]
    for listener in listeners:
        listener.set_inheritable(False)
    return listeners
