"""`python -m deploy.local.hub`: JupyterHub, started twice as fast, on a socket that is open already.

JupyterHub imports jupyter_events, which imports jsonschema, which imports rfc3987_syntax if it is installed; that
compiles a grammar for 1.4 s at each import. It checks the formats `iri` and `iri-reference`, which no event of the hub
has; jsonschema does without it if it can't be imported.

JupyterHub can't be given a socket. It lets Tornado open the port of `hub_bind_url`, and here Tornado takes the socket
that was handed over for that port (`ports.py`).
"""

import os
import runpy
import socket
import sys
from typing import Any

import tornado.tcpserver

from deploy.local.handover import FIRST_DESCRIPTOR

servers: Any = tornado.tcpserver
_bind_sockets = servers.bind_sockets


def serve_on_handed_over() -> None:
    """Make Tornado use the sockets that this process was started with, each for its own port."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return

    count = int(os.environ["LISTEN_FDS"])
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        del os.environ[name]

    held = {}
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count):
        one = socket.socket(fileno=number)
        one.setblocking(False)
        one.set_inheritable(False)
        held[one.getsockname()[1]] = one

    def bind_sockets(port: int, *others: Any, **named: Any) -> list[socket.socket]:
        return [held[port]] if port in held else _bind_sockets(port, *others, **named)

    servers.bind_sockets = bind_sockets


if __name__ == "__main__":
    modules: dict[str, Any] = sys.modules
    modules["rfc3987_syntax"] = None
    serve_on_handed_over()
    runpy.run_module("jupyterhub", run_name="__main__", alter_sys=True)
