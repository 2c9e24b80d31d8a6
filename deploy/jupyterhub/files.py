"""Small files of servers: records, folders and logs."""

import json
import os
import shutil
import stat
from pathlib import Path


def write_json(path: Path, content: dict[str, object]) -> None:
    """Replace a small file in one step: a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def remove_tree(folder: Path) -> None:
    """Remove a folder, even if a server took the write permission away from a part of it."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except OSError:
        for parent, folders, _ in os.walk(folder):
            for path in [Path(parent), *(Path(parent, child) for child in folders)]:
                if not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)


def log_tail(path: Path, *, lines: int = 20, size_bytes: int = 8192) -> str:
    """Return the last lines of a log, with undecodable bytes replaced; empty if there is no such file."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - size_bytes))
            tail = log.read()
    except FileNotFoundError:
        return ""
    return "\n".join(tail.decode("utf-8", "replace").splitlines()[-lines:])
