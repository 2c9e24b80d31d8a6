"""What is running now, on disk: the lock that `up` holds, and the processes that it started.

The lock says whether `up` runs (the system drops it when its holder dies, however it dies); the record
`<data>/run/up.json` says where, and which processes a dead `up` has left behind.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.local.process_table import boot_id
from deploy.local.processes import (
    Process,
    end_processes,
    orphans,
    running_processes,
    this_process,
    write_atomically,
)
from deploy.local.settings import Settings

LOCK = "lock"
RECORD = "up.json"
START_TOKEN = "start-token"  # noqa: S105 - a file's name


class AlreadyRunning(Exception):
    """Another `up` holds the lock of this data folder."""


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Be the only one who runs, or ends, the stack of this data folder. Raises `AlreadyRunning` without waiting."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning from None
        yield
    finally:
        os.close(descriptor)


def is_locked(run_dir: Path) -> bool:
    """Tell whether somebody holds the lock."""
    try:
        with lock(run_dir):
            return False
    except AlreadyRunning:
        return True


class RunRecord:
    """`<data>/run/up.json`, rewritten whole at each start and end of a part, so that it is never behind."""

    def __init__(self, run_dir: Path, urls: Sequence[str]) -> None:
        """`urls`: the gateways' addresses, the first one first."""
        self._path = run_dir / RECORD
        self._urls = list(urls)
        self._up = this_process("up")
        self._parts: dict[str, Process] = {}
        self._write()

    def started(self, part: str, process: Process) -> None:
        """A part has a process, which may do nothing yet."""
        self._parts[part] = process
        self._write()

    def ended(self, part: str) -> None:
        """A part's process is gone."""
        self._parts.pop(part, None)
        self._write()

    def _write(self) -> None:
        found = {
            "v": 1,
            "url": self._urls[0],
            "gateways": self._urls,
            "boot": boot_id(),
            "up": asdict(self._up),
            "parts": {name: asdict(process) for name, process in self._parts.items()},
        }
        write_atomically(self._path, json.dumps(found, indent=1))


def running_up(run_dir: Path) -> tuple[Process, str] | None:
    """The process of `up` and its address, as recorded; None when there is no readable record of this boot."""
    try:
        found = json.loads((run_dir / RECORD).read_text())
        return (Process(**found["up"]), str(found["url"])) if found["boot"] == boot_id() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def end_leftovers(settings: Settings) -> list[Process]:
    """End what a dead `up` left behind: its parts, and builds and servers with their background jobs. Data stays.

    Call it with the lock held. Blocks until they are gone; returns those that were running.
    """
    leftovers = [*_recorded_parts(settings.run_dir), *running_processes(settings.processes_dir)]
    ended = end_processes(leftovers, settings.stop_timeout_seconds, settings.home_dirs)
    for name in (RECORD, START_TOKEN):
        (settings.run_dir / name).unlink(missing_ok=True)
    for path in settings.processes_dir.glob("*.json"):
        path.unlink(missing_ok=True)
    return ended


def find_leftovers(settings: Settings) -> list[Process]:
    """What a dead `up` left behind and is still running."""
    found = [one for one in _recorded_parts(settings.run_dir) if one.is_running] + running_processes(
        settings.processes_dir
    )
    return found + orphans(found, settings.home_dirs)


def _recorded_parts(run_dir: Path) -> list[Process]:
    try:
        found = json.loads((run_dir / RECORD).read_text())
        if found["boot"] != boot_id():  # ticks since another boot say nothing
            return []
        return [Process(**part) for part in found["parts"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
