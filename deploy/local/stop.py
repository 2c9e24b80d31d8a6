"""`bindery stop`, which ends a stack from another terminal, and `bindery clean`, which deletes its data."""

import contextlib
import os
import shutil
import signal
import sys
import time

from deploy.local.components import STOP_ORDER
from deploy.local.installation import FILE
from deploy.local.processes import Process
from deploy.local.run_record import LOCK, AlreadyRunning, end_leftovers, is_locked, lock, recorded_up
from deploy.local.settings import Settings, StartupError
from deploy.local.sockets import remove_socket_folders

POLL_SECONDS = 0.05
"""Time between two looks at whether `up` has ended."""


def stop(settings: Settings) -> str:
    """End the running stack, or the rest of a killed one, and return a line that reports the outcome.

    Raise `StartupError` if it does not end.
    """
    if not settings.run_dir.exists():
        return "Bindery was not running."

    was_running = _end_up(settings)
    leftovers = []
    with contextlib.suppress(AlreadyRunning), lock(settings.run_dir):  # one that was started meanwhile goes on
        leftovers = end_leftovers(settings)
        remove_socket_folders(settings.data_dir, os.environ)

    if was_running:
        return "Bindery has stopped."
    if leftovers:
        return f"Bindery was not running; ended what an earlier run left behind ({len(leftovers)} processes)."
    return "Bindery was not running."


def clean(settings: Settings, *, force: bool) -> str:
    """Delete the data folder, after asking unless `force`, and return a line that reports the outcome.

    Raise `StartupError` while the stack runs, for a folder that isn't Bindery's, and without a terminal to ask at.
    """
    if not settings.data_dir.exists():
        return f"There is nothing to delete: {settings.data_dir} does not exist."
    if not (settings.data_dir / FILE).exists():
        raise StartupError(f"{settings.data_dir} was not made by Bindery (it has no {FILE}): delete it yourself.")

    try:
        with lock(settings.run_dir):
            if not force and not _is_confirmed(
                f"Delete {settings.data_dir} with all images, logs and launches? [y/N] "
            ):
                return "Nothing was deleted."
            end_leftovers(settings)
            remove_socket_folders(settings.data_dir, os.environ)
            shutil.rmtree(settings.data_dir)
    except AlreadyRunning:
        raise StartupError("Bindery is running: end it first, with `make stop`.") from None
    except OSError as error:
        raise StartupError(f"{settings.data_dir} could not be deleted completely: {error}") from error

    return f"Deleted {settings.data_dir}."


def _end_up(settings: Settings) -> bool:
    """End `up` by SIGTERM, or by SIGKILL if it takes longer than all its components may. Return whether it ran."""
    if not is_locked(settings.run_dir):
        return False

    timeout_seconds = settings.stop_timeout_seconds * (len(STOP_ORDER) + 1) + 5
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _signal_until_unlocked(settings, number, timeout_seconds):
            return True

    raise StartupError(f"Bindery does not end: find the process that holds {settings.run_dir / LOCK}, and end it.")


def _signal_until_unlocked(settings: Settings, number: signal.Signals, timeout_seconds: float) -> bool:
    """Send a signal to `up` once its process is recorded, a moment after it has the lock, and wait for its end."""
    signalled: Process | None = None
    deadline = time.monotonic() + timeout_seconds

    while time.monotonic() < deadline:
        up = recorded_up(settings.run_dir)
        if up and up.process != signalled:
            signalled = up.process
            signalled.signal(number)
        if not is_locked(settings.run_dir):
            return True
        time.sleep(POLL_SECONDS)

    return False


def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise StartupError("There is no terminal to ask at: `make clean FORCE=1` deletes the data without asking.")
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False
