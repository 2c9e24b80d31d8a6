"""The worker's end of its fork server: sessions are started by it, in milliseconds."""

import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import services
from services.builder.executors.process.session.environment import session_environment
from services.builder.executors.process.session.layout import BuildFolder

_CHECKOUT = Path(services.__path__[0]).parent
_FORK_SERVER = "services.builder.executors.process.session.fork_server"
_START_SECONDS = 5.0
"""Shorter than other workers wait for a build that is being started."""
_END_SECONDS = 5.0


class Sessions:
    """Starts sessions, which outlive this process. Its fork server is started when it is needed, and ends with it.

    `proxy` is added to the environment of sessions.
    """

    def __init__(self, proxy: dict[str, str]) -> None:
        self._proxy = proxy
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def prepare(self) -> None:
        """Start the fork server, unless it runs; it is ready a moment later."""
        with self._lock:
            self._connect()

    def start(self, folder: BuildFolder, lock_fd: int) -> None:
        """Start the session of a folder, whose lock it inherits. Block until it has left a record of its process.

        Raise `OSError` if it can't be started.
        """
        with self._lock:
            if self._start(folder, lock_fd):
                return
            self._close()  # the server has died; what it had not started by then never starts
            if not self._start(folder, lock_fd):
                raise OSError(f"no session could be started: see {_output(folder)}, and the log of this worker")

    def close(self) -> None:
        """End the fork server; sessions go on."""
        with self._lock:
            self._close()

    def _connect(self) -> socket.socket:
        if self._server and self._server.poll() is not None:
            self._close()
        if self._orders is None:
            self._orders, theirs = socket.socketpair()
            with theirs:
                self._server = subprocess.Popen(
                    [sys.executable, "-m", _FORK_SERVER, str(theirs.fileno())],
                    cwd=_CHECKOUT,
                    env=session_environment(os.environ) | self._proxy,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        return self._orders

    def _start(self, folder: BuildFolder, lock_fd: int) -> bool:
        """Return whether the session runs, or will: False if the server has died before it started it."""
        orders = self._connect()
        readable, writable = os.pipe()
        with os.fdopen(readable, "rb", buffering=0) as started:
            try:
                with _output(folder).open("ab") as output:
                    descriptors = [lock_fd, output.fileno(), writable]
                    socket.send_fds(orders, [os.fsencode(folder.path)], descriptors)
            except (BrokenPipeError, ConnectionResetError):
                return False
            finally:
                os.close(writable)

            # A server that is slow has the order, and the lock with it: nobody else starts this session.
            is_known, _, _ = select.select([started], [], [], _START_SECONDS)
            return not is_known or started.read(1) != b""

    def _close(self) -> None:
        if self._orders:
            self._orders.close()
        if self._server:
            try:
                self._server.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._orders = self._server = None


def _output(folder: BuildFolder) -> Path:
    """Return the file for what a session prints: nothing, unless it fails in a way that nobody has thought of."""
    return folder.path / "session.log"
