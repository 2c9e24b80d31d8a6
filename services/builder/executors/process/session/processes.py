"""Processes that outlive the worker: their identity, whether they live, and how to end them with their descendants.

deploy/jupyterhub and deploy/local have modules like this one: neither may import from services.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from services.builder.executors.process.session.environment import RUN_VARIABLE

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Identity:
    """A pid and the time at which its process started: no other process ever has both."""

    pid: int
    start_time: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """Return when a process started, as text; None if it does not run or is a zombie.

    On Linux it is field 22 of `/proc/<pid>/stat` (clock ticks since boot), elsewhere the local time as `ps -o lstart=`
    prints it.
    """
    try:
        return _start_time(psutil.Process(pid))
    except psutil.Error:
        return None


def identify(pid: int) -> Identity | None:
    """Return the identity of a living process; None if there is no such process."""
    started = start_time(pid)
    return Identity(pid, started) if started is not None else None


def end_all(leaders: Iterable[Identity], run: str, *, seconds: float = 5) -> None:
    """Kill `leaders`, their descendants, and each process of the run `run`; block until all are gone.

    Descendants in sessions of their own are included. A descendant whose parent has died is found by the variable
    `BINDERY_RUN`, on Linux only.

    Raise `TimeoutError` if a process still lives after `seconds`.
    """
    family = {leader for leader in leaders if leader.is_alive}
    deadline = time.monotonic() + seconds

    while family := _living(family, run):
        for member in family:
            if member.is_alive:
                _kill(member.pid)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(family)} processes could not be killed")
        time.sleep(_POLL_SECONDS)


def _living(family: set[Identity], run: str) -> set[Identity]:
    """Return the members of a family that live, with their descendants and the processes of the run."""
    alive = {member for member in family if member.is_alive}
    relatives = _descendants(member.pid for member in alive) | _of_run(run)
    return alive | {relative for pid in relatives if (relative := identify(pid))}


def _descendants(pids: Iterable[int]) -> set[int]:
    descendants: set[int] = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            descendants |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return descendants


def _of_run(run: str) -> set[int]:
    if not psutil.LINUX:
        return set()
    return {pid for pid in psutil.pids() if _run_of(pid) == run}


def _run_of(pid: int) -> str | None:
    try:
        return psutil.Process(pid).environ().get(RUN_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _start_time(process: psutil.Process) -> str | None:
    if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        return None
    if not psutil.LINUX:
        return time.asctime(time.localtime(process.create_time()))

    # psutil adds the time of the boot, which moves when the clock is set. It is subtracted again, if it has not moved.
    booted_at = psutil.boot_time()
    created_at = process.create_time()
    if psutil.boot_time() != booted_at:
        return _start_time(psutil.Process(process.pid))
    return str(round((created_at - booted_at) * _TICKS_PER_SECOND))
