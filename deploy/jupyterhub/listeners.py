"""TCP ports at which a process listens, as the system reports them.

That a port answers proves nothing: any user of the machine may listen there.
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ON_LINUX = sys.platform.startswith("linux")
_PROC = Path("/proc")

_LISTEN_STATE = "0A"
"""TCP_LISTEN in /proc/net/tcp."""

_REACHED_BY_LOOPBACK = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "*"}  # noqa: S104 -- looked for, not bound
"""Addresses of listening sockets that 127.0.0.1 leads to; `::` only if it accepts IPv4 too, which its answer shows."""


def listening_ports(pid: int) -> list[int]:
    """Return the ports at which a process of ours listens for 127.0.0.1, in ascending order; empty if it is gone."""
    ports = _ports_in_proc(pid) if _ON_LINUX else ports_in_lsof(_lsof(pid))
    return sorted(set(ports))


def _ports_in_proc(pid: int) -> Iterator[int]:
    inodes = _socket_inodes(pid)
    if not inodes:
        return

    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a machine without IPv6
            continue

        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN_STATE and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                if _address(address) in _REACHED_BY_LOOPBACK:
                    yield int(port, 16)


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    try:
        for descriptor in os.listdir(_PROC / str(pid) / "fd"):  # noqa: PTH208 - their names are numbers
            try:
                target = os.readlink(_PROC / str(pid) / "fd" / descriptor)  # noqa: PTH115 -- not a path
            except OSError:  # closed meanwhile
                continue

            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        return set()

    return inodes


def _address(text: str) -> str:
    """Return an address of /proc/net/tcp, which has words of 32 bits in the byte order of the machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _lsof(pid: int) -> str:
    lsof = shutil.which("lsof") or "/usr/sbin/lsof"  # which is not in everybody's PATH
    command = [lsof, "-nP", "-a", "-p", str(pid), "-iTCP", "-sTCP:LISTEN", "-Fn"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout


def ports_in_lsof(text: str) -> list[int]:
    """Return the ports in the output of `lsof -Fn` for listening sockets, such as `n127.0.0.1:8888` and `n*:8888`."""
    sockets = re.findall(r"^n(\S+):([0-9]+)$", text, re.MULTILINE)
    return [int(port) for address, port in sockets if address.strip("[]") in _REACHED_BY_LOOPBACK]
