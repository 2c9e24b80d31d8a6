"""At which TCP ports a process listens, as the system says: so nobody else's port is taken for a server's own.

That a port answers proves nothing, since any user of the machine may listen there.
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
_LISTENS = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
_REACHED = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "*"}  # noqa: S104 -- looked for, not bound
"""What a socket is bound to that 127.0.0.1 leads to; `::` only where it takes IPv4 too, which its answer shows."""


def listening_ports(pid: int) -> list[int]:
    """The ports that a process of ours listens at for 127.0.0.1, in ascending order; none if it is gone."""
    return sorted(set(_linux_ports(pid) if _ON_LINUX else ports_in_lsof(_lsof(pid))))


def _linux_ports(pid: int) -> Iterator[int]:
    inodes = _socket_inodes(pid)
    for table in ("tcp", "tcp6") if inodes else ():
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a machine without IPv6
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTENS and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                if _address(address) in _REACHED:
                    yield int(port, 16)


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    try:
        for descriptor in os.listdir(_PROC / str(pid) / "fd"):  # noqa: PTH208
            try:
                target = os.readlink(_PROC / str(pid) / "fd" / descriptor)  # noqa: PTH115 -- it is no path
            except OSError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return set()
    return found


def _address(text: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the byte order of the machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _lsof(pid: int) -> str:
    lsof = shutil.which("lsof") or "/usr/sbin/lsof"  # which is not in everybody's PATH
    command = [lsof, "-nP", "-a", "-p", str(pid), "-iTCP", "-sTCP:LISTEN", "-Fn"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout


def ports_in_lsof(text: str) -> list[int]:
    """The ports in what `lsof -Fn` prints of listening sockets: lines such as `n127.0.0.1:8888`, `n*:8888`."""
    found = re.findall(r"^n(\S+):([0-9]+)$", text, re.MULTILINE)
    return [int(port) for address, port in found if address.strip("[]") in _REACHED]
