"""Starts the sessions of one worker: `python -m services.builder.executors.process.session.fork_server <fd>`.

A session is there in milliseconds, as what it imports is imported before, and its fetch is prepared. The server ends
with its worker; sessions go on. An order is one message on the socket `<fd>`: the path of a build folder, and three
descriptors (`Order`).
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from services.builder.executors.process.session import fetching, session

MAX_ORDER_BYTES = 16 * 1024
IS_FORK_ENOUGH = sys.platform.startswith("linux")
"""Elsewhere a forked process starts Python anew: macOS's own libraries don't work in one."""
_MAX_COMM = 15
_PR_SET_CHILD_SUBREAPER = 36
_SESSION = session.__name__.rpartition(".")[0]


class Order(NamedTuple):
    """What a session is given: the lock of its folder, already taken, a file for its output, and a pipe.

    The session writes a byte to the pipe once it has left a record of its process.
    """

    lock_fd: int
    output_fd: int
    started_fd: int


def serve(orders: socket.socket, *, is_fork_enough: bool = IS_FORK_ENOUGH) -> None:
    """Start a session for each order, until the other end is closed."""
    signal.signal(signal.SIGCHLD, _reap)
    _adopt_orphans()
    gc.collect()
    gc.freeze()  # else the first collection of each session would copy all that it shares with us

    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, len(Order._fields))
        if not message:
            return
        order = Order(*descriptors)
        if os.fork() == 0:
            orders.close()  # else the worker would not see that we have died while this session lives
            _become_session(Path(os.fsdecode(message)), order, is_fork_enough=is_fork_enough)
        for descriptor in order:
            os.close(descriptor)


def _become_session(folder: Path, order: Order, *, is_fork_enough: bool) -> None:
    """Run a session in this process, and end it: nothing of the server's own end is run."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for output in (1, 2):
            os.dup2(order.output_fd, output)
        with contextlib.suppress(OSError):  # only Linux has it
            Path("/proc/self/comm").write_text(f"build {folder.name}"[:_MAX_COMM])  # what `top` shows

        arguments = [str(folder), "--lock-fd", str(order.lock_fd), "--started-fd", str(order.started_fd)]
        if not is_fork_enough:
            for descriptor in (order.lock_fd, order.started_fd):
                os.set_inheritable(descriptor, True)
            os.execv(sys.executable, [sys.executable, "-m", _SESSION, *arguments])  # noqa: S606 -- no shell is meant
        status = session.main(arguments)
    except BaseException:  # noqa: BLE001 -- it is the last one who can say it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _adopt_orphans() -> None:
    """Become the parent of what sessions leave: not every first process of a container lets the ended disappear."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(*_: object) -> None:
    """Let sessions that have ended disappear."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main(arguments: list[str]) -> int:
    """Serve the orders of the socket whose descriptor is the argument."""
    with socket.socket(fileno=int(arguments[0])) as orders:
        orders.set_inheritable(False)
        fetching.prepare()
        serve(orders)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
