"""Processes that outlive the worker: who they are, whether they live, and how all that they started is ended.

deploy/jupyterhub has its like: what runs inside the hub imports nothing of ours.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ON_LINUX = sys.platform.startswith("linux")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """A pid and the time its process started: together they are never somebody else's."""

    pid: int
    start_time: str

    @property
    def is_alive(self) -> bool:
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """Return when the process started, as the system words it; None if there is none, or only its zombie.

    Linux: field 22 of /proc/<pid>/stat, in clock ticks since boot. Elsewhere: what `ps -o lstart=` prints.
    """
    if _ON_LINUX:
        fields = _stat_fields(pid)
        return fields[19] if fields and fields[0] not in "ZX" else None
    answer = _ps("-o", "stat=,lstart=", "-p", str(pid)).split(maxsplit=1)
    return answer[1].strip() if len(answer) == 2 and not answer[0].startswith("Z") else None


def identify(pid: int) -> Identity | None:
    """Return the identity of a living process."""
    started = start_time(pid)
    return Identity(pid, started) if started is not None else None


def end_all(leaders: Iterable[Identity], home: Path, *, seconds: float = 5) -> None:
    """Kill `leaders`, all that they started, and all whose HOME is `home`; blocks until they are gone.

    Sessions of their own are included. Processes whose parent has died are found by HOME, on Linux only.
    Raises `TimeoutError` if something still lives after `seconds`.
    """
    family = {one for one in leaders if one.is_alive}
    deadline = time.monotonic() + seconds
    while family := _living(family, home):
        for one in family:
            if one.is_alive:
                _signal(one.pid)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(family)} processes could not be killed")
        time.sleep(0.01)


def _living(family: set[Identity], home: Path) -> set[Identity]:
    alive = {one for one in family if one.is_alive}
    return alive | _identities(_descendants(one.pid for one in alive)) | _identities(_at_home(home))


def _descendants(pids: Iterable[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = list(pids)
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def _at_home(home: Path) -> set[int]:
    if not _ON_LINUX:
        return set()
    mark = b"HOME=" + os.fsencode(home)
    return {pid for pid in _pids() if mark in _environment(pid)}


def _identities(pids: Iterable[int]) -> set[Identity]:
    return {one for pid in pids if (one := identify(pid))}


def _signal(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _parents() -> list[tuple[int, int]]:
    if _ON_LINUX:
        return [(pid, int(fields[1])) for pid in _pids() if (fields := _stat_fields(pid))]
    lines = _ps("-axo", "pid=,ppid=").splitlines()
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines)]


def _stat_fields(pid: int) -> list[str]:
    """Return the fields from the third on; the second, the command's name, may hold spaces and brackets."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ps(*arguments: str) -> str:
    answer = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, timeout=10)
    return answer.stdout
