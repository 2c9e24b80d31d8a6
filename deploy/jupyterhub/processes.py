"""Processes that outlive the hub: who they are, whether they live, and how all that they started is ended."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
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


def descendants(pids: Iterable[int]) -> set[int]:
    """Return the processes started, directly or not, by any of `pids`; sessions of their own are included."""
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


def at_home(home: Path) -> set[int]:
    """Return the processes whose HOME is `home`: also those whose parent has died (Linux; elsewhere none)."""
    if not _ON_LINUX:
        return set()
    mark = _home_mark(home)
    return {pid for pid in _pids() if mark in _environment(pid) and start_time(pid) is not None}


def belongs(pid: int, leader: Identity, home: Path) -> bool:
    """Whether a process is `leader`, has `home` as HOME (Linux), or was started by `leader`."""
    if _ON_LINUX and _home_mark(home) in _environment(pid):
        return True
    return leader.is_alive and (pid == leader.pid or pid in descendants([leader.pid]))


async def end(leader: Identity | None, home: Path, *, term_seconds: float, kill_seconds: float = 5) -> None:
    """End `leader`, everything it started and everything at `home`: TERM first, KILL after `term_seconds`.

    A terminal or a kernel is a session of its own, so the leader's process group alone would not do.
    Raises `TimeoutError` if something still lives `kill_seconds` after KILL.
    """
    if leader and leader.is_alive:
        family = _identities(descendants([leader.pid]))
        _signal_group(leader.pid, signal.SIGTERM)
    else:
        leader, family = None, set()
    family |= _identities(at_home(home))
    if leader is None:
        for one in family:
            _signal(one, signal.SIGTERM)
    else:
        family.add(leader)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(term_seconds):
            while leader.is_alive if leader else any(one.is_alive for one in family):
                await asyncio.sleep(0.02)
    async with asyncio.timeout(kill_seconds):
        while family := _survivors(family, home):
            for one in family:
                _signal(one, signal.SIGKILL)
            await asyncio.sleep(0.02)


def kill(leader: Identity) -> None:
    """Kill a process, its group and all its descendants at once, without waiting."""
    if leader.is_alive:
        family = _identities(descendants([leader.pid]))
        _signal_group(leader.pid, signal.SIGKILL)
        for one in family:
            _signal(one, signal.SIGKILL)


def write_json(path: Path, content: dict[str, object]) -> None:
    """Replace a small file in one step, so that a reader sees the old or the new content, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def remove_tree(folder: Path) -> None:
    """Remove a folder, even if what ran there took the write permission away."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except OSError:
        for parent, folders, _ in os.walk(folder):
            for name in [parent, *(os.path.join(parent, one) for one in folders)]:  # noqa: PTH118
                if not os.path.islink(name):  # noqa: PTH114
                    Path(name).chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)


def log_tail(path: Path, *, lines: int = 20, size_bytes: int = 8192) -> str:
    """Return the last lines of a log, undecodable bytes replaced; empty if there is no such file."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - size_bytes))
            tail = log.read()
    except FileNotFoundError:
        return ""
    return "\n".join(tail.decode("utf-8", "replace").splitlines()[-lines:])


def _survivors(family: set[Identity], home: Path) -> set[Identity]:
    alive = {one for one in family if one.is_alive}
    return alive | _identities(descendants(one.pid for one in alive)) | _identities(at_home(home))


def _identities(pids: Iterable[int]) -> set[Identity]:
    return {one for pid in pids if (one := identify(pid))}


def _signal(one: Identity, number: signal.Signals) -> None:
    if one.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208


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


def _home_mark(home: Path) -> bytes:
    return b"HOME=" + os.fsencode(home)


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ps(*arguments: str) -> str:
    answer = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, timeout=10)
    return answer.stdout
