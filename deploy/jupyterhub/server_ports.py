"""At which port a server that chose one itself is to be found: what it wrote down, and what the system says of it.

A server is told port 0. Jupyter Server writes into its runtime folder which port it got (`jpserver-<pid>.json`; of
Notebook 6 it is `nbserver-<pid>.json`), but that alone proves nothing: 2.21 writes it down before it listens, when the
port may still become anybody's, and 1.24 and Notebook 6 write 0. So a port counts when the process that is named
listens at it.
"""

import json
from pathlib import Path

from deploy.jupyterhub.listeners import listening_ports
from deploy.jupyterhub.processes import Identity, belongs

_FILES = ("jpserver-*.json", "nbserver-*.json")


def server_ports(leader: Identity, home: Path, runtime: Path) -> list[int]:
    """The ports at which the server of a session may answer; empty while it listens at none.

    `leader` is the session's first process. Where no Jupyter of the session has written anything down, what `leader`
    itself listens at counts: a `start` script that became another server.
    """
    told = [(pid, port) for pid, port in _written_down(runtime) if belongs(pid, leader, home)]
    found: list[int] = []
    for pid, port in told:
        own = listening_ports(pid)
        found += [port] if port in own else [] if port else own
    return found if told or not leader.is_alive else listening_ports(leader.pid)


def _written_down(runtime: Path) -> list[tuple[int, int]]:
    found = []
    for pattern in _FILES:
        for path in sorted(runtime.glob(pattern)):
            try:
                info = json.loads(path.read_text())
                found.append((int(info["pid"]), int(info["port"])))
            except (OSError, ValueError, KeyError, TypeError):  # half written
                continue
    return found
