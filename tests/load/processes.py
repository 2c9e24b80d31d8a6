"""What a process costs: time on the CPU, memory and handles, as /proc tells (Linux; elsewhere unknown)."""

import contextlib
import os
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENS = "0A"
"""State of a socket in the kernel's tables of TCP."""
_CONNECTED = "03"
"""State of a Unix socket in the kernel's table."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


def with_children(pid: int) -> list[int]:
    """Return a process and those that it has started: the fork server of a worker, for one."""
    with contextlib.suppress(psutil.Error):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def pss_bytes(pid: int) -> int:
    """Proportional set size: memory shared with others is counted in parts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def rss_bytes(pid: int) -> int:
    """Resident set size."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def file_handles(pid: int) -> int:
    """Files, sockets and pipes that a process has open."""
    return len(_handles(pid))


def unix_connections(pid: int) -> int:
    """Connections that a process has opened to Unix sockets, by pairs of its own also: its end of them has no name."""
    fields = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    unnamed = {f"socket:[{of_line[6]}]" for of_line in fields if len(of_line) == 7}
    return sum(handle in unnamed for handle in _handles(pid))


def accepted_connections(pid: int) -> int:
    """Connections that others have opened to Unix sockets of a process: its end of them has the socket's name."""
    fields = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    accepted = {f"socket:[{of_line[6]}]" for of_line in fields if len(of_line) > 7 and of_line[5] == _CONNECTED}
    return sum(handle in accepted for handle in _handles(pid))


def tcp_connections(pid: int) -> int:
    """Connections of a process by TCP, to or from others; what it listens at is none."""
    established = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] != _LISTENS:
                established.add(f"socket:[{fields[9]}]")
    return sum(handle in established for handle in _handles(pid))


def _handles(pid: int) -> list[str]:
    handles: list[str] = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            handles.append(str(path.readlink()))
    return handles
