"""Records of the processes that are sessions: in a build's folder, and where `make stop` looks for what still runs."""

import json
import os

from services.builder.executors.process.session.layout import BuildFolder, Layout, write_atomically
from services.builder.executors.process.session.processes import Identity, start_time


def write(folder: BuildFolder, layout: Layout) -> None:
    """Record that this process is the session of a build."""
    pid = os.getpid()
    fields = {"pid": pid, "start_time": start_time(pid)}
    write_atomically(folder.session_path, json.dumps(fields))
    record = layout.process_records / f"{pid}.json"
    write_atomically(record, json.dumps(fields | {"what": f"build {folder.build_id}"}))


def withdraw(layout: Layout, session: Identity) -> None:
    """Remove the record of a session that has ended, unless another process has its number by now."""
    path = layout.process_records / f"{session.pid}.json"
    try:
        if json.loads(path.read_text())["start_time"] == session.start_time:
            path.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        pass
