"""Port of a server that chose it itself: read from the server's runtime folder, and checked against the system.

A server is started with port 0. Jupyter Server writes the port that it got into its runtime folder
(`jpserver-<pid>.json`; Notebook 6 `nbserver-<pid>.json`). That proves nothing: Jupyter Server 2.21 writes it before it
listens, while another process may still take the port, and 1.24 and Notebook 6 write 0. So a port counts only if the
process named in the file listens at it.
"""

import json
from pathlib import Path

from deploy.jupyterhub.listeners import listening_ports
from deploy.jupyterhub.processes import Identity, belongs

_FILES = ("jpserver-*.json", "nbserver-*.json")


def server_ports(leader: Identity, run: str, runtime: Path) -> list[int]:
    """Return the ports at which the server of a session may answer; empty while it listens at none.

    `leader` is the first process of the session, whose programs have `run` in `RUN_VARIABLE`. If no Jupyter of the
    session has written a port, the ports of `leader`
    itself count: a `start` script may have become another server.
    """
    candidates = [(pid, port) for pid, port in _written_ports(runtime) if belongs(pid, leader, run)]
    if not candidates and leader.is_alive:
        return listening_ports(leader.pid)

    ports: list[int] = []
    for pid, port in candidates:
        own_ports = listening_ports(pid)
        if not port:
            ports += own_ports
        elif port in own_ports:
            ports.append(port)
    return ports


def _written_ports(runtime: Path) -> list[tuple[int, int]]:
    """Return pid and port of each readable file."""
    ports = []
    for pattern in _FILES:
        for path in sorted(runtime.glob(pattern)):
            try:
                info = json.loads(path.read_text())
                ports.append((int(info["pid"]), int(info["port"])))
            except (OSError, ValueError, KeyError, TypeError):  # half written
                continue
    return ports
