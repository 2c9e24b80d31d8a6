"""TCP ports at which a process listens, as the system reports them.

That a port answers proves nothing: any user of the machine may listen there.
"""

import psutil

_REACHED_BY_LOOPBACK = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"}  # noqa: S104 -- looked for, not bound
"""Addresses of listening sockets that 127.0.0.1 leads to; `::` only if it accepts IPv4 too, which its answer shows."""


def listening_ports(pid: int) -> list[int]:
    """Return the ports at which a process of ours listens for 127.0.0.1, in ascending order; empty if it is gone."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return []

    listening = [connection.laddr for connection in connections if connection.status == psutil.CONN_LISTEN]
    return sorted({address.port for address in listening if address.ip in _REACHED_BY_LOOPBACK})
