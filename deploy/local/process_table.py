"""The system's processes, by psutil: start times, parents, groups, sessions and environments."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: str


def process_table() -> list[Row]:
    """Return every process of this machine that we may see, without zombies."""
    # Not psutil.process_iter: it caches a pid's process, also when the pid is another process's by now.
    return [row for pid in psutil.pids() if (row := _row(pid))]


def process_start_time(pid: int) -> str | None:
    """Return the time at which a process was started, as text; None if it does not run or is a zombie.

    On Linux it is field 22 of `/proc/<pid>/stat` (clock ticks since boot), elsewhere the local time as
    `time.asctime` writes it, which is what `ps -o lstart=` prints.
    """
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return _start_time(process)
    except psutil.Error:
        return None


def run_of(pid: int) -> Path | None:
    """Return the folder of the build or server that a process belongs to; None if it belongs to none that we may see.

    Builder and spawner tell it to their programs in this variable.
    """
    try:
        run = psutil.Process(pid).environ().get("BINDERY_RUN")
    except psutil.Error:
        return None

    return Path(run) if run else None


def has_our_root(pid: int) -> bool:
    """Return whether a process has our root folder (Linux): in a container, an equal path is another folder."""
    try:
        return Path(f"/proc/{pid}/root").samefile("/")
    except OSError:
        return False


def boot_id() -> str:
    """Return an id of this boot of the machine if start times count from the boot; else an empty string."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    return ""


def _row(pid: int) -> Row | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            start_time = _start_time(process)
            parent = process.ppid()
        group = os.getpgid(pid)
    except (psutil.Error, ProcessLookupError):
        return None

    return (
        Row(pid=pid, parent=parent, group=group, session=_session_of(pid, group), start_time=start_time)
        if start_time
        else None
    )


def _session_of(pid: int, group: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # not every system tells of other sessions; a group is the nearest
        return group


def _start_time(process: psutil.Process) -> str | None:
    if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        return None
    if not psutil.LINUX:
        return time.asctime(time.localtime(process.create_time()))

    # psutil adds the time of the boot, which moves when the clock is set: the very same is subtracted here.
    booted_at = psutil.boot_time()
    created_at = process.create_time()
    if psutil.boot_time() != booted_at:
        return _start_time(psutil.Process(process.pid))

    return str(round((created_at - booted_at) * TICKS_PER_SECOND))
