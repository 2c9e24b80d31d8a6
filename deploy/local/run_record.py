"""The record of a run on disk: the lock that `up` holds, and the processes that it has started.

The lock says whether `up` runs: the system drops it when its holder ends, in whatever way. The record
`<data>/run/up.json` says at which addresses, and which processes an `up` that was killed has left behind.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
ENVIRONMENT_SUFFIX = ".env"
"""Ending of the files with the environments of components that are run by hand."""


class AlreadyRunning(Exception):
    """Another `up` holds the lock of this data folder."""


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Be the only process that runs, or ends, the stack of this data folder.

    Raise `AlreadyRunning` at once if another one does.
    """
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
    """Return whether a process holds the lock."""
    try:
        with lock(run_dir):
            return False
    except AlreadyRunning:
        return True


class RunRecord:
    """`<data>/run/up.json`, rewritten whole at each start and end of a component, so that it is always up to date."""

    def __init__(self, run_dir: Path, urls: Sequence[str]) -> None:
        """Write the first record; `urls` are the gateways' addresses, in order."""
        self._path = run_dir / RECORD
        self._urls = list(urls)
        self._up = this_process("up")
        self._processes: dict[str, Process] = {}
        self._write()

    def add(self, name: str, process: Process) -> None:
        """Record the process of a component, which may do nothing before that."""
        self._processes[name] = process
        self._write()

    def remove(self, name: str) -> None:
        """Remove the process of a component, which has ended."""
        self._processes.pop(name, None)
        self._write()

    def _write(self) -> None:
        record = {
            "v": 1,
            "url": self._urls[0],
            "gateways": self._urls,
            "boot": boot_id(),
            "up": asdict(self._up),
            "parts": {name: asdict(process) for name, process in self._processes.items()},
        }
        write_atomically(self._path, json.dumps(record, indent=1))


@dataclass(frozen=True)
class RecordedUp:
    """The `up` of a record, which may have ended."""

    process: Process
    url: str


def recorded_up(run_dir: Path) -> RecordedUp | None:
    """Return the `up` of the record; None if there is no readable record of this boot."""
    try:
        record = json.loads((run_dir / RECORD).read_text())
        if record["boot"] != boot_id():
            return None
        return RecordedUp(Process(**record["up"]), str(record["url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def end_leftovers(settings: Settings) -> list[Process]:
    """End the processes that a killed `up` has left behind, and return those that were running. The data stays.

    These are its components, and builds and servers with their background jobs. The lock must be held. Blocks until
    all have ended.
    """
    leftovers = [*_recorded_components(settings.run_dir), *running_processes(settings.processes_dir)]
    processes = end_processes(leftovers, settings.stop_timeout_seconds, settings.run_dirs)

    of_the_run = [settings.run_dir / RECORD, settings.run_dir / START_TOKEN]
    environments = settings.run_dir.glob(f"*{ENVIRONMENT_SUFFIX}")
    for path in (*of_the_run, *environments, *settings.processes_dir.glob("*.json")):
        path.unlink(missing_ok=True)

    return processes


def find_leftovers(settings: Settings) -> list[Process]:
    """Return the processes that a killed `up` has left behind and that still run."""
    components = [process for process in _recorded_components(settings.run_dir) if process.is_running]
    leftovers = components + running_processes(settings.processes_dir)
    return leftovers + orphans(leftovers, settings.run_dirs)


def _recorded_components(run_dir: Path) -> list[Process]:
    try:
        record = json.loads((run_dir / RECORD).read_text())
        if record["boot"] != boot_id():  # start times count from the boot: those of another one mean nothing
            return []
        return [Process(**process) for process in record["parts"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
