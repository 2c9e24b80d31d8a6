"""Ports of this machine: which are free, and choosing some."""

import errno
import random
import socket

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take the ports of outgoing connections: there, a
# client that retries a dead part could be given the part's own port, talk to itself and keep the part from it.
CHOICE = range(20000, 32000)


def is_free(host: str, port: int) -> bool:
    """Tell whether we could listen there now. Raises `OSError` when not even asking is possible."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def free_ports(count: int, avoid: set[int]) -> list[int]:
    """Choose `count` different ports of 127.0.0.1 that nobody listens on and that are not in `avoid`."""
    chosen: list[int] = []
    for port in random.sample(CHOICE, len(CHOICE)):
        if len(chosen) == count:
            return chosen
        if port not in avoid and is_free("127.0.0.1", port):
            chosen.append(port)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports between {CHOICE.start} and {CHOICE.stop}")
