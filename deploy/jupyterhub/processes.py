"""Processes that outlive the hub: their identity, whether they run, and how to end all that they started."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.02

RUN_VARIABLE = "BINDERY_RUN"
"""Tells in the environment of each program to which server it belongs: by that server's folder."""


@dataclass(frozen=True)
class Identity:
    """A process that can't be mistaken for another: its pid, and the time at which it started."""

    pid: int
    start_time: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """Return when a process started, as text; None if it does not run or is a zombie.

    The text is field 22 of `/proc/<pid>/stat` (clock ticks since boot) on Linux, and elsewhere the local time as
    `ps -o lstart=` prints it. The builder and `bindery up` write and read the same.
    """
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                return None
            return _start_time(process)
    except psutil.Error:
        return None


def _start_time(process: psutil.Process) -> str:
    if not psutil.LINUX:
        return time.asctime(time.localtime(process.create_time()))

    # psutil adds the time of the boot, which moves when the clock is set: the same value is subtracted here.
    booted_at = psutil.boot_time()
    created_at = process.create_time()
    if psutil.boot_time() != booted_at:
        return _start_time(psutil.Process(process.pid))
    return str(round((created_at - booted_at) * _TICKS_PER_SECOND))


def identify(pid: int) -> Identity | None:
    """Return the identity of a running process, or None."""
    started = start_time(pid)
    return Identity(pid, started) if started is not None else None


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, directly or not, in whatever session."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.Error:
        return set()


def of_run(run: str) -> set[int]:
    """Return the running processes of a server, even if their parent has died (Linux; elsewhere none).

    `run` is what the server's programs have in `RUN_VARIABLE`.
    """
    if not psutil.LINUX:
        return set()
    return {pid for pid in psutil.pids() if _is_of_run(pid, run) and start_time(pid) is not None}


def _is_of_run(pid: int, run: str) -> bool:
    try:
        return psutil.Process(pid).environ().get(RUN_VARIABLE) == run
    except (psutil.Error, OSError):
        return False


def belongs(pid: int, leader: Identity, run: str) -> bool:
    """Return whether a process is `leader`, was started by it, or is of the run `run` (Linux)."""
    if psutil.LINUX and _is_of_run(pid, run):
        return True
    return leader.is_alive and (pid == leader.pid or pid in descendants(leader.pid))


async def end(leader: Identity | None, run: str, *, term_seconds: float, kill_seconds: float = 5) -> None:
    """End `leader`, everything it started and everything of the run `run`: SIGTERM, then SIGKILL.

    The leader's process group alone would not do: a terminal and a kernel are sessions of their own. SIGKILL follows
    after `term_seconds`. Raise `TimeoutError` if a process is still running `kill_seconds` later.
    """
    family = await asyncio.to_thread(_family, leader, run)
    if leader and leader.is_alive:
        _signal_group(leader.pid, signal.SIGTERM)
        awaited = {leader}
    else:
        for process in family:
            _signal(process, signal.SIGTERM)
        awaited = set(family)
    family |= awaited

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(term_seconds):
            while any(process.is_alive for process in awaited):
                await asyncio.sleep(_POLL_SECONDS)

    async with asyncio.timeout(kill_seconds):
        while family := await asyncio.to_thread(_survivors, family, run):
            for process in family:
                _signal(process, signal.SIGKILL)
            await asyncio.sleep(_POLL_SECONDS)


def kill(leader: Identity) -> None:
    """Send SIGKILL to a process, its group and all its descendants, without waiting for their end."""
    if not leader.is_alive:
        return
    family = _identities(descendants(leader.pid))
    _signal_group(leader.pid, signal.SIGKILL)
    for process in family:
        _signal(process, signal.SIGKILL)


def _family(leader: Identity | None, run: str) -> set[Identity]:
    """Return the processes that `leader` started or that are of the run.

    Each process of the machine is read, which takes some milliseconds: not to be called on the event loop.
    """
    family = _identities(of_run(run))
    if leader and leader.is_alive:
        family |= _identities(descendants(leader.pid))
    return family


def _survivors(family: set[Identity], run: str) -> set[Identity]:
    """Return the members of `family` that still run, and their descendants; slow for the same reason as `_family`."""
    alive = {process for process in family if process.is_alive}
    started = {pid for process in alive for pid in descendants(process.pid)}
    return alive | _identities(started) | _identities(of_run(run))


def _identities(pids: Iterable[int]) -> set[Identity]:
    return {identity for pid in pids if (identity := identify(pid))}


def _signal(process: Identity, number: signal.Signals) -> None:
    if process.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
