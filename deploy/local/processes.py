"""Processes by pid and start time: who is still running, and ending exactly those.

A pid alone is recycled by the system, so every process that may outlive its parent is written down with its
start time. A build and a user server each lead a session of their own and have one file in
`<data>/run/processes/`, named as its writer likes and ending in `.json`, written by rename:

    {"pid": 4711, "start_time": "8675309", "what": "build 0123456789abcdef01234567-1"}

`start_time` is text. On Linux it is field 22 of `/proc/<pid>/stat` (clock ticks since boot); elsewhere it is what
`ps -o lstart= -p <pid>` prints, stripped. The builder and the spawner write this format with code of their own,
since neither may import from here. Who wrote a record removes it when its process has ended; records of the dead
are harmless.

What a build or a server started may be nobody's child by now, in a session of its own: `nohup` in a terminal whose
shell has ended, `setsid` in a start script. Such a process is known by its HOME, a folder of its own for each build and
server.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True)
class Process:
    """One process that can't be mistaken for another: `start_time` as in the module's docstring."""

    pid: int
    start_time: str
    what: str

    @property
    def is_running(self) -> bool:
        """Whether this very process is still there; a zombie is not."""
        return process_start_time(self.pid) == self.start_time

    def signal(self, number: int) -> None:
        """Send a signal to this process, and to the whole group if it leads one. Does nothing when it is gone."""
        if not self.is_running:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def write(self, path: Path) -> None:
        """Write this record, all of it or nothing."""
        write_whole(path, json.dumps(asdict(self)))


@dataclass(frozen=True)
class Row:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: str


def write_whole(path: Path, text: str) -> None:
    """Write a file that only its owner may read, so that a reader sees the old content or the new, never half."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def process_start_time(pid: int) -> str | None:
    """Tell when a process was started, as in the module's docstring; None when it is not running or a zombie."""
    if HAS_PROC:
        return row.start_time if (row := _linux_row(pid)) else None
    state, _, started = _ps("-o", "state=,lstart=", "-p", str(pid)).strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def this_process(what: str) -> Process:
    """The record of the process that asks."""
    return Process(os.getpid(), process_start_time(os.getpid()) or "", what)


def read_record(path: Path) -> Process | None:
    """Read one record; None when it is gone or was not written by us."""
    try:
        found = json.loads(path.read_text())
        return Process(int(found["pid"]), str(found["start_time"]), str(found["what"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def recorded(folder: Path) -> list[Process]:
    """The running processes that have a record in this folder."""
    records = (read_record(path) for path in sorted(folder.glob("*.json")))
    return [process for process in records if process and process.is_running]


def family(roots: Iterable[Process]) -> list[Process]:
    """Those of `roots` that are running, with all their descendants and who else is in their group or session."""
    rows = process_table()
    found = {root.pid: root for root in roots if root.is_running}
    grew = True
    while grew:
        grew = False
        for row in rows:
            above = found.get(row.parent) or found.get(row.group) or found.get(row.session)
            if row.pid not in found and above:
                found[row.pid] = Process(row.pid, row.start_time, above.what)
                grew = True
    found.pop(os.getpid(), None)
    return list(found.values())


def at_home(folders: Sequence[Path]) -> list[Process]:
    """Processes whose HOME lies below one of `folders`, also those whose parents have ended (Linux; elsewhere none)."""
    if not HAS_PROC:
        return []
    return [
        Process(row.pid, row.start_time, f"background job of {folder.name}/{home.relative_to(folder).parts[0]}")
        for row in process_table()
        if _sees_our_files(row.pid) and (home := _home(row.pid))
        for folder in folders
        if folder in home.parents
    ]


def _sees_our_files(pid: int) -> bool:
    """Whether a process has the same root folder: in a container's a path of the same name is another's."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))  # noqa: PTH116
    except OSError:
        return False


def astray(roots: Iterable[Process], homes: Sequence[Path]) -> list[Process]:
    """Processes at home below `homes` that belong to none of `roots`: whoever started them has ended."""
    known = {one.pid for one in family(roots)} | {os.getpid()}
    return [one for one in at_home(homes) if one.pid not in known]


def end_processes(roots: Iterable[Process], timeout_seconds: float, homes: Sequence[Path] = ()) -> list[Process]:
    """End processes, all that belongs to them and all at home below `homes`: SIGTERM, then SIGKILL after a while.

    Returns those of `roots` that were running, and those at home that belong to none of them. Blocks until all have
    ended, bounded in each step by `timeout_seconds`.
    """
    roots = [root for root in roots if root.is_running]
    roots += astray(roots, homes)
    everyone = family(roots)
    for process in everyone:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    _wait_until_gone(everyone, timeout_seconds)
    deadline = time.monotonic() + timeout_seconds
    while remaining := family([*everyone, *at_home(homes)]):  # some may have been started meanwhile
        for process in remaining:
            process.signal(signal.SIGKILL)
        everyone = remaining
        if not _wait_until_gone(remaining, timeout_seconds) or time.monotonic() > deadline:
            break
    return roots


def process_table() -> list[Row]:
    """Every process of this machine that we may see, zombies left out."""
    if HAS_PROC:
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [row for pid in pids if (row := _linux_row(pid))]
    rows = []
    for line in _ps("-A", "-o", "pid=,ppid=,pgid=,state=,lstart=").splitlines():
        pid, parent, group, state, started = line.split(maxsplit=4)
        if not state.startswith("Z"):  # macOS tells no session ids; a group is the nearest it has
            rows.append(Row(int(pid), int(parent), int(group), int(group), started.strip()))
    return rows


def boot_id() -> str:
    """What differs between two boots of a machine whose start times count from the boot; else nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _linux_row(pid: int) -> Row | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, field 2, is in parentheses and may hold anything: fields are counted from its end.
    state, parent, group, session, *others = stat.rpartition(")")[2].split()
    return None if state in "ZX" else Row(pid, int(parent), int(group), int(session), others[15])


def _home(pid: int) -> Path | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return None
    found = next((one for one in variables if one.startswith(b"HOME=")), None)
    return Path(os.fsdecode(found.removeprefix(b"HOME="))) if found else None


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout


def _wait_until_gone(processes: Iterable[Process], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while any(process.is_running for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
