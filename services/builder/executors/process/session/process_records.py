"""Records of the processes of builds: in a build's folder, and where `make stop` looks for what still runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from services.builder.executors.process.session.layout import BuildFolder, Layout, write_atomically
from services.builder.executors.process.session.processes import Identity, start_time


def write_session(folder: BuildFolder, layout: Layout) -> None:
    """Record that this process is the session of a build."""
    session = write(layout, f"build {folder.build_id}")
    write_atomically(folder.session_path, json.dumps({"pid": session.pid, "start_time": session.start_time}))


def write(layout: Layout, what: str) -> Identity:
    """Record that this process lives, and what it does; return which one it is."""
    pid = os.getpid()
    process = Identity(pid, start_time(pid) or "")
    fields = {"pid": pid, "start_time": process.start_time, "what": what}
    write_atomically(layout.process_records / f"{pid}.json", json.dumps(fields))
    return process


@contextmanager
def recorded(layout: Layout, what: str) -> Iterator[None]:
    """Have a record of this process until the exit."""
    process = write(layout, what)
    try:
        yield
    finally:
        withdraw(layout, process)


def withdraw(layout: Layout, process: Identity) -> None:
    """Remove the record of a process that has ended, unless another one has its number by now."""
    path = layout.process_records / f"{process.pid}.json"
    try:
        if json.loads(path.read_text())["start_time"] == process.start_time:
            path.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        pass
