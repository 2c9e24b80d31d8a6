"""Processes by pid and start time: which of them still run, and how exactly those are ended.

The system reuses pids, so every process that may outlive its parent is written down with its start time. A build and a
user server each lead a session of their own and have one file in `<data>/run/processes/`, whose name ends in `.json`,
written by rename:

    {"pid": 4711, "start_time": "8675309", "what": "build 0123456789abcdef01234567-1"}

`start_time` is text, as `process_table.process_start_time` returns it. The builder and the spawner write this format
with code of their own, since neither may import from here. The writer of a record removes it when its process has
ended; records of ended processes are harmless.

What a build or a server has started may have lost its parent and have a session of its own: `nohup` in a terminal
whose shell has ended, `setsid` in a start script. Such a process is recognized by the variable BINDERY_RUN: each build
and each server has a folder of its own there.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.local.process_table import has_our_root, process_start_time, process_table, run_of

POLL_SECONDS = 0.02
"""How often it is looked whether processes have ended."""


@dataclass(frozen=True)
class Process:
    """One process that can't be mistaken for another; `what` names it for the user."""

    pid: int
    start_time: str
    what: str

    @property
    def is_running(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return process_start_time(self.pid) == self.start_time

    def signal(self, number: int) -> None:
        """Send a signal to this process, and to its whole group if it leads one. Do nothing if it has ended."""
        if not self.is_running:
            return

        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def write(self, path: Path) -> None:
        """Write this record, all of it or nothing."""
        write_atomically(path, json.dumps(asdict(self)))


def write_atomically(path: Path, text: str) -> None:
    """Write a file that only its owner may read; a reader sees the old content or the new, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def this_process(what: str) -> Process:
    """Return the record of the process that asks."""
    return process_of(os.getpid(), what)


def process_of(pid: int, what: str) -> Process:
    """Return the record of a process; its start time is empty if it has ended."""
    return Process(pid, process_start_time(pid) or "", what)


def read_record(path: Path) -> Process | None:
    """Read one record; None if the file does not exist or has another format."""
    try:
        record = json.loads(path.read_text())
        return Process(int(record["pid"]), str(record["start_time"]), str(record["what"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running_processes(folder: Path) -> list[Process]:
    """Return the processes that have a record in a folder and still run."""
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]
    return [process for process in records if process and process.is_running]


def family(roots: Iterable[Process]) -> list[Process]:
    """Return those of `roots` that run, their descendants, and all others in a group or session of one of these."""
    rows = process_table()
    members = {root.pid: root for root in roots if root.is_running}

    has_grown = True
    while has_grown:
        has_grown = False
        for row in rows:
            relative = members.get(row.parent) or members.get(row.group) or members.get(row.session)
            if row.pid not in members and relative:
                members[row.pid] = Process(row.pid, row.start_time, relative.what)
                has_grown = True

    members.pop(os.getpid(), None)
    return list(members.values())


def by_run(folders: Sequence[Path]) -> list[Process]:
    """Return the processes of runs below one of `folders`, with or without a parent (Linux; elsewhere none)."""
    if not psutil.LINUX:
        return []

    return [
        Process(row.pid, row.start_time, f"background job of {folder.name}/{run.relative_to(folder).parts[0]}")
        for row in process_table()
        if has_our_root(row.pid) and (run := run_of(row.pid))
        for folder in folders
        if folder in run.parents
    ]


def orphans(roots: Iterable[Process], runs: Sequence[Path]) -> list[Process]:
    """Return the processes of runs below `runs` that belong to none of `roots`: their parent has ended."""
    members = {process.pid for process in family(roots)} | {os.getpid()}
    return [process for process in by_run(runs) if process.pid not in members]


def end_processes(roots: Iterable[Process], timeout_seconds: float, runs: Sequence[Path] = ()) -> list[Process]:
    """End processes, their families and all of runs below `runs`: by SIGTERM, then by SIGKILL.

    Returns those of `roots` that were running, and the orphans below `runs`. Blocks until all have ended; each step
    takes at most `timeout_seconds`.
    """
    roots = [root for root in roots if root.is_running]
    roots += orphans(roots, runs)

    everyone = family(roots)
    for process in everyone:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    _wait_until_ended(everyone, timeout_seconds)

    deadline = time.monotonic() + timeout_seconds
    while remaining := family([*everyone, *by_run(runs)]):  # also processes that were started meanwhile
        for process in remaining:
            process.signal(signal.SIGKILL)
        everyone = remaining
        if not _wait_until_ended(remaining, timeout_seconds) or time.monotonic() > deadline:
            break

    return roots


def _wait_until_ended(processes: Iterable[Process], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while any(process.is_running for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)

    return True
